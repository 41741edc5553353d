//! Kubernetes objects as YAML, as short as a test can say them.

use std::fmt::Write;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::tls::Certificate;

/// A file of objects.
#[derive(Clone, Debug, Default)]
pub struct Manifests(String);

impl Manifests {
    /// The IngressClass `corelane` and one node at 127.0.0.1.
    pub fn new() -> Self {
        Self::default()
            .document(
                "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: corelane}\n\
             spec: {controller: corelane.dev/ingress-controller}\n",
            )
            .document(
                "apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\n\
             status: {addresses: [{type: InternalIP, address: 127.0.0.1}], conditions: [{type: Ready, status: 'True'}]}\n",
            )
    }

    /// Nothing at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds one object as written.
    #[must_use]
    pub fn document(mut self, yaml: &str) -> Self {
        write!(self.0, "---\n{yaml}\n").expect("a string takes everything");
        self
    }

    /// A Service whose port `http` (80) leads to these endpoints.
    #[must_use]
    pub fn service(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.service_in("default", name, endpoints)
    }

    /// As [`Self::service`], in this namespace.
    #[must_use]
    pub fn service_in(self, namespace: &str, name: &str, endpoints: &[SocketAddr]) -> Self {
        let mut manifests = self.document(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{type: ClusterIP, clusterIP: 10.96.0.1, ports: [{{name: http, port: 80, targetPort: 8080, protocol: TCP}}]}}\n"
        ));
        // Endpoints on one address need a slice for each port.
        for (index, endpoint) in endpoints.iter().enumerate() {
            manifests = manifests.slice(namespace, name, index, *endpoint, "ready: true");
        }
        manifests
    }

    /// One EndpointSlice with one endpoint.
    #[must_use]
    pub fn slice(self, namespace: &str, service: &str, index: usize, endpoint: SocketAddr, conditions: &str) -> Self {
        self.document(&format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {service}-{index}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {service}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: {}, protocol: TCP}}]\n\
             endpoints: [{{addresses: [{}], nodeName: node-1, conditions: {{{conditions}}}}}]\n",
            endpoint.port(),
            endpoint.ip()
        ))
    }

    /// A Service of type NodePort: every node answers for it on this port, for `pods` pods.
    #[must_use]
    pub fn node_port_service(self, name: &str, node_port: u16, pods: usize) -> Self {
        let mut manifests = self.document(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{type: NodePort, clusterIP: 10.96.0.1, ports: [{{name: http, port: 8080, nodePort: {node_port}, protocol: TCP}}]}}\n"
        ));
        for pod in 0..pods {
            manifests = manifests.slice("default", name, pod, SocketAddr::from(([10, 244, 0, pod as u8 + 1], 8080)), "ready: true");
        }
        manifests
    }

    /// Adds an Ingress.
    #[must_use]
    pub fn ingress(self, ingress: &Ingress) -> Self {
        self.document(&ingress.to_yaml())
    }

    /// A Secret of type `kubernetes.io/tls`.
    #[must_use]
    pub fn tls_secret(self, name: &str, certificate: &Certificate) -> Self {
        self.document(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\ntype: kubernetes.io/tls\n\
             data: {{tls.crt: {}, tls.key: {}}}\n",
            STANDARD.encode(&certificate.chain_pem),
            STANDARD.encode(&certificate.key_pem)
        ))
    }

    /// A Secret with one key.
    #[must_use]
    pub fn secret(self, name: &str, key: &str, value: &str) -> Self {
        self.document(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\ntype: Opaque\ndata: {{{key}: {}}}\n",
            STANDARD.encode(value)
        ))
    }

    /// The ConfigMap with global settings, which [`crate::support::edge::Corelane`] always names.
    #[must_use]
    pub fn settings(self, settings: &[(&str, &str)]) -> Self {
        let mut yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: corelane}\ndata:\n".to_owned();
        for (key, value) in settings {
            writeln!(yaml, "  {key}: {value:?}").expect("a string takes everything");
        }
        self.document(&yaml)
    }

    pub fn to_yaml(&self) -> &str {
        &self.0
    }
}

/// One Ingress of class `corelane`.
#[derive(Clone, Debug)]
pub struct Ingress {
    namespace: String,
    name: String,
    annotations: Vec<(String, String)>,
    tls: Vec<(String, String)>,
    rules: Vec<Rule>,
    default_backend: Option<String>,
    class: String,
}

#[derive(Clone, Debug)]
struct Rule {
    host: String,
    path_type: String,
    path: String,
    service: String,
    port: String,
}

impl Ingress {
    pub fn new(name: &str) -> Self {
        Self {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            annotations: Vec::new(),
            tls: Vec::new(),
            rules: Vec::new(),
            default_backend: None,
            class: "corelane".to_owned(),
        }
    }

    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    #[must_use]
    pub fn class(mut self, class: &str) -> Self {
        class.clone_into(&mut self.class);
        self
    }

    /// An annotation under ingress-nginx's prefix.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.push((format!("nginx.ingress.kubernetes.io/{name}"), value.to_owned()));
        self
    }

    /// A certificate for a host.
    #[must_use]
    pub fn tls(mut self, host: &str, secret: &str) -> Self {
        self.tls.push((host.to_owned(), secret.to_owned()));
        self
    }

    /// Prefix `/` of `host` to port `http` of a Service; an empty host is every host.
    #[must_use]
    pub fn host(self, host: &str, service: &str) -> Self {
        self.path(host, "Prefix", "/", service)
    }

    /// A path of `host` to port `http` of a Service.
    #[must_use]
    pub fn path(mut self, host: &str, path_type: &str, path: &str, service: &str) -> Self {
        self.rules.push(Rule {
            host: host.to_owned(),
            path_type: path_type.to_owned(),
            path: path.to_owned(),
            service: service.to_owned(),
            port: "name: http".to_owned(),
        });
        self
    }

    /// The port of the last rule by number.
    #[must_use]
    pub fn port_number(mut self, number: u16) -> Self {
        self.rules.last_mut().expect("a rule to change").port = format!("number: {number}");
        self
    }

    #[must_use]
    pub fn default_backend(mut self, service: &str) -> Self {
        self.default_backend = Some(service.to_owned());
        self
    }

    pub fn to_yaml(&self) -> String {
        let mut yaml =
            format!("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {}\n  namespace: {}\n", self.name, self.namespace);
        self.write_spec(&mut yaml).expect("a string takes everything");
        yaml
    }

    fn write_spec(&self, yaml: &mut String) -> std::fmt::Result {
        if !self.annotations.is_empty() {
            writeln!(yaml, "  annotations:")?;
            for (name, value) in &self.annotations {
                writeln!(yaml, "    {name}: {value:?}")?;
            }
        }
        writeln!(yaml, "spec:\n  ingressClassName: {}", self.class)?;
        if let Some(service) = &self.default_backend {
            writeln!(yaml, "  defaultBackend: {{service: {{name: {service}, port: {{name: http}}}}}}")?;
        }
        if !self.tls.is_empty() {
            writeln!(yaml, "  tls:")?;
            for (host, secret) in &self.tls {
                writeln!(yaml, "    - {{hosts: ['{host}'], secretName: {secret}}}")?;
            }
        }
        if !self.rules.is_empty() {
            writeln!(yaml, "  rules:")?;
        }
        for (index, rule) in self.rules.iter().enumerate() {
            if index == 0 || self.rules[index - 1].host != rule.host {
                let host = if rule.host.is_empty() { String::new() } else { format!("host: '{}'\n      ", rule.host) };
                writeln!(yaml, "    - {host}http:\n        paths:")?;
            }
            writeln!(
                yaml,
                "          - {{path: '{}', pathType: {}, backend: {{service: {{name: {}, port: {{{}}}}}}}}}",
                rule.path, rule.path_type, rule.service, rule.port
            )?;
        }
        Ok(())
    }
}
