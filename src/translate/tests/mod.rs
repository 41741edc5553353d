//! Whole translations of small worlds: objects in, answers out.

mod annotations;
mod backends;
mod certificates;
mod classes;
mod hostile;
mod hosts;
mod memory;
mod page;
mod routing;

use std::fmt::Write;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::route::Lookup;
use crate::snapshot::certificate::Pair;
use crate::snapshot::certificate::TicketKeys;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::rule::Action;
use crate::snapshot::rule::Rule;
use crate::snapshot::rule::RuleId;
use crate::translate::Translation;
use crate::translate::memory::Memory;
use crate::translate::options::Options;
use crate::translate::resources::Resources;
use crate::translate::translate;

/// Objects, and what translations of them remember.
pub(crate) struct World {
    pub(crate) resources: Resources,
    pub(crate) options: Options,
    pub(crate) memory: Memory,
}

pub(crate) fn key(written: &str) -> ObjectKey {
    let (namespace, name) = written.split_once('/').unwrap_or(("default", written));
    ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

impl World {
    /// A cluster with the class `corelane`, one ready node, and what `yaml` adds.
    pub(crate) fn new(yaml: &str) -> Self {
        let fallback = Arc::new(Pair { source: "self-signed".to_owned(), ..Pair::default() });
        let memory = Memory::new(fallback, Arc::new(TicketKeys::from_secrets([1; 32], None)));
        let mut world = Self { resources: Resources::default(), options: Options::default(), memory };
        world.apply(&ingress_class("corelane", "corelane.dev/ingress-controller"));
        world.apply(&node("node-1", "192.0.2.1", "status: {conditions: [{type: Ready, status: 'True'}]}"));
        world.apply(yaml);
        world
    }

    /// As a directory of manifests is served.
    pub(crate) fn of_manifests(yaml: &str) -> Self {
        let mut world = Self::new("");
        world.resources = Resources::default();
        world.options.allow_loopback = true;
        world.apply(yaml);
        world
    }

    /// Adds or replaces the objects of `yaml`, documents apart by `---`.
    pub(crate) fn apply(&mut self, yaml: &str) {
        for document in yaml.split("\n---\n").filter(|document| !document.trim().is_empty()) {
            let value: serde_json::Value = serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}"));
            let name = value["metadata"]["name"].as_str().expect("a name").to_owned();
            let kind = value["kind"].as_str().expect("a kind").to_owned();
            let is_global = matches!(kind.as_str(), "Node" | "IngressClass" | "Namespace");
            let namespace = if is_global { "" } else { value["metadata"]["namespace"].as_str().unwrap_or("default") };
            let key = ObjectKey { namespace: namespace.to_owned(), name };
            let all = &mut self.resources;
            match kind.as_str() {
                "Ingress" => drop(all.ingresses.insert(key, object(document))),
                "IngressClass" => drop(all.ingress_classes.insert(key, object(document))),
                "Service" => drop(all.services.insert(key, object(document))),
                "EndpointSlice" => drop(all.endpoint_slices.insert(key, object(document))),
                "Node" => drop(all.nodes.insert(key, object(document))),
                "Secret" => drop(all.secrets.insert(key, object(document))),
                "ConfigMap" => drop(all.config_maps.insert(key, object(document))),
                other => panic!("no place for a {other}"),
            }
        }
    }

    pub(crate) fn translate(&mut self) -> Translation {
        translate(&self.resources, &self.options, &mut self.memory)
    }
}

fn object<T: DeserializeOwned>(document: &str) -> Arc<T> {
    Arc::new(serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}")))
}

pub(crate) fn ingress_class(name: &str, controller: &str) -> String {
    format!("\n---\nkind: IngressClass\nmetadata: {{name: {name}}}\nspec: {{controller: {controller}}}\n")
}

/// `more` are further lines at the top level: a `status` among them gets the address too, a `metadata` has to bring the name.
pub(crate) fn node(name: &str, address: &str, more: &str) -> String {
    let status = format!("status: {{addresses: [{{type: InternalIP, address: '{address}'}}], ");
    let more = if more.contains("status: {") { more.replacen("status: {", &status, 1) } else { format!("{more}\n{status}}}") };
    let metadata = if more.contains("metadata: {") { String::new() } else { format!("metadata: {{name: '{name}'}}\n") };
    format!("\n---\nkind: Node\n{metadata}{more}\n")
}

/// A Service of type NodePort with one port 80, and a pod for it on `node-1`.
pub(crate) fn service(name: &str, node_port: u16) -> String {
    let spec = format!("type: NodePort, clusterIP: 10.96.0.1, ports: [{{port: 80, name: http, nodePort: {node_port}}}]");
    service_with(name, "", &spec) + &slice(name, "http", "{addresses: [10.1.0.1], nodeName: node-1}")
}

pub(crate) fn service_with(name: &str, annotations: &str, spec: &str) -> String {
    let ObjectKey { namespace, name } = key(name);
    format!("\n---\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}, annotations: {{{annotations}}}}}\nspec: {{{spec}}}\n")
}

/// An EndpointSlice of IPv4 with one port 8080 under the name `port`.
pub(crate) fn slice(service: &str, port: &str, endpoints: &str) -> String {
    slice_of(service, "1", "IPv4", port, endpoints)
}

pub(crate) fn slice_of(service: &str, suffix: &str, family: &str, port: &str, endpoints: &str) -> String {
    let ObjectKey { namespace, name } = key(service);
    format!(
        "\n---\nkind: EndpointSlice\naddressType: {family}\n\
         metadata: {{name: {name}-{suffix}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         ports: [{{name: '{port}', port: 8080}}]\nendpoints: [{endpoints}]\n"
    )
}

/// An Ingress, each line of which is one of
/// `class NAME`, `created TIME`, `annotation KEY VALUE`, `rule HOST KIND PATH SERVICE:PORT`, `rule HOST`, `default SERVICE:PORT`,
/// `tls HOST,HOST SECRET`; a host `-` is none, a kind `Impl` is ImplementationSpecific, the class is `corelane` if none is given.
pub(crate) fn ingress(name: &str, lines: &str) -> String {
    let ObjectKey { namespace, name } = key(name);
    let (mut class, mut created, mut default) = ("corelane".to_owned(), String::new(), String::new());
    let (mut annotations, mut rules, mut tls) = (String::new(), String::new(), String::new());
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["class", name] => class = name.to_owned(),
            ["created", time] => created = format!(", creationTimestamp: '{time}'"),
            ["annotation", key, ..] => {
                let value = line.splitn(3, ' ').nth(2).unwrap_or_default();
                let key = if key.contains('/') { key.to_owned() } else { format!("nginx.ingress.kubernetes.io/{key}") };
                let _ = writeln!(annotations, "    {key}: {value:?}");
            }
            ["rule", host] => rules += &format!("{{host: {host:?}}}, "),
            ["rule", host, kind, path, backend] => {
                let kind = if kind == "Impl" { "ImplementationSpecific" } else { kind };
                let host = if host == "-" { String::new() } else { format!("host: {host:?}, ") };
                let path = format!("{{path: {path:?}, pathType: {kind:?}, backend: {}}}", backend_of(backend));
                rules += &format!("{{{host}http: {{paths: [{path}]}}}}, ");
            }
            ["default", backend] => default = format!("  defaultBackend: {}\n", backend_of(backend)),
            ["tls", hosts, ref secret @ ..] => {
                let hosts = if hosts == "-" { String::new() } else { format!("hosts: ['{}'], ", hosts.replace(',', "','")) };
                tls += &format!("{{{hosts}{}}}, ", secret.first().map_or(String::new(), |name| format!("secretName: {name}")));
            }
            _ => panic!("no line of an Ingress: {line}"),
        }
    }
    let class = if class == "-" { String::new() } else { format!("  ingressClassName: {class}\n") };
    let default = if rules.is_empty() && default.is_empty() { String::new() } else { default };
    format!(
        "\n---\nkind: Ingress\nmetadata:\n  name: '{name}'\n  namespace: {namespace}{}\n  annotations:\n{annotations}    x: y\n\
         spec:\n{class}{default}  rules: [{rules}]\n  tls: [{tls}]\n",
        created.replacen(", ", "\n  ", 1)
    )
}

fn backend_of(written: &str) -> String {
    match written.split_once(':') {
        Some((name, port)) if port.parse::<u32>().is_ok() => format!("{{service: {{name: {name}, port: {{number: {port}}}}}}}"),
        Some((name, port)) => format!("{{service: {{name: {name}, port: {{name: {port}}}}}}}"),
        None if written == "-" => "{}".to_owned(),
        None => format!("{{resource: {{kind: Bucket, name: {written}}}}}"),
    }
}

impl Translation {
    /// The rule that a request meets.
    pub(crate) fn rule(&self, host: &str, path: &str) -> Option<&Rule> {
        let id: RuleId = match self.routes.find(host.as_bytes(), path.as_bytes()) {
            Lookup::Rule { rule, .. } => *rule,
            Lookup::NoPath { host } => host.default_rule.or(self.default_rule)?,
            Lookup::NoHost => self.default_rule?,
        };
        Some(&self.rules[id.0 as usize])
    }

    /// The Service that answers a request, else the status and reason.
    pub(crate) fn answer(&self, host: &str, path: &str) -> String {
        let Some(rule) = self.rule(host, path) else { return "404".to_owned() };
        match &rule.action {
            Action::Forward(id) => self.cluster(id.0).map_or("?", |cluster| &cluster.service).to_owned(),
            Action::Answer(fixed) => format!("{} {}", fixed.status, fixed.reason),
        }
    }

    fn cluster(&self, id: u32) -> Option<&Arc<Cluster>> {
        self.clusters.get(id as usize)?.as_ref()
    }

    /// The only cluster of this Service.
    pub(crate) fn cluster_of(&self, service: &str) -> &Arc<Cluster> {
        let mut of_service = self.clusters.iter().flatten().filter(|cluster| &*cluster.service == service);
        let cluster = of_service.next().unwrap_or_else(|| panic!("no cluster of {service}: {:#?}", self.findings));
        assert!(of_service.next().is_none(), "several clusters of {service}");
        cluster
    }

    /// `address*weight` of the endpoints of this Service.
    pub(crate) fn endpoints_of(&self, service: &str) -> Vec<String> {
        let endpoints = self.cluster_of(service).endpoints.iter();
        endpoints.map(|endpoint| format!("{}*{}", endpoint.address, endpoint.weight)).collect()
    }

    /// The findings with this reason.
    pub(crate) fn said(&self, reason: &str) -> Vec<&Finding> {
        self.findings.iter().filter(|finding| finding.reason == reason).collect()
    }

    /// `severity kind object field reason` of every finding.
    pub(crate) fn summary(&self) -> Vec<String> {
        let line =
            |finding: &Finding| format!("{:?} {} {} {} {}", finding.severity, finding.kind, finding.object, finding.field, finding.reason);
        self.findings.iter().map(line).collect()
    }
}
