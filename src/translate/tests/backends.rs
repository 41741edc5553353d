//! How a backend becomes addresses, and what is said where it cannot.

use crate::snapshot::finding::Severity;
use crate::translate::Translation;
use crate::translate::options::BackendMode;
use crate::translate::tests::World;
use crate::translate::tests::ingress;
use crate::translate::tests::node;
use crate::translate::tests::service;
use crate::translate::tests::service_with;
use crate::translate::tests::slice;
use crate::translate::tests::slice_of;

const READY: &str = "status: {conditions: [{type: Ready, status: 'True'}]}";
const NODE_PORT: &str = "type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, name: http, nodePort: 30001}]";
const LOCAL: &str = "type: NodePort, externalTrafficPolicy: Local, ports: [{port: 80, name: http, nodePort: 30001}]";
const CLUSTER_IP: &str = "clusterIP: 10.96.0.9, ports: [{port: 80, name: http}]";

/// A world without nodes in which `foo.com` is served by the Service `a`.
fn world(yaml: &str) -> World {
    let mut world = World::new("");
    world.resources.nodes.clear();
    world.apply(&ingress("x", "rule foo.com Prefix / a:80"));
    world.apply(yaml);
    world
}

fn endpoints(yaml: &str) -> Vec<String> {
    world(yaml).translate().endpoints_of("a")
}

fn reasons(translation: &Translation) -> Vec<&'static str> {
    translation.findings.iter().map(|finding| finding.reason).collect()
}

/// A backend that cannot be served leaves its rule in place: 503 with a reason, one error that names the cure, and no neighbour harmed.
#[test]
fn a_wrong_backend_answers_503() {
    let services = service("a", 30001)
        + &service_with("external", "", "type: ExternalName, externalName: example.com")
        + &service_with("headless", "", "type: ClusterIP, clusterIP: None, ports: [{port: 80}]")
        + &service_with("inner", "", CLUSTER_IP)
        + &service_with("unallocated", "", "type: LoadBalancer, ports: [{port: 80, nodePort: 0}]")
        + &service_with("udp", "", "type: NodePort, ports: [{port: 80, nodePort: 30009, protocol: UDP}]");
    for (backend, token, reason, field) in [
        ("missing:80", "service_not_found", "ServiceNotFound", ".service.name"),
        ("a:81", "service_port_not_found", "ServicePortNotFound", ".service.port.number"),
        ("a:web", "service_port_not_found", "ServicePortNotFound", ".service.port.name"),
        ("a:0", "service_port_not_found", "ServicePortMissing", ".service.port"),
        ("udp:80", "service_port_not_found", "ServicePortNotFound", ".service.port.number"),
        ("bucket", "resource_backend_unsupported", "ResourceBackendUnsupported", ".resource"),
        ("-", "backend_missing", "BackendMissing", ""),
        ("external:80", "external_name_refused", "ExternalNameRefused", ".service.name"),
        ("headless:80", "service_not_node_port", "ServiceNotNodePort", ".service.name"),
        ("inner:80", "service_not_node_port", "ServiceNotNodePort", ".service.name"),
        ("unallocated:80", "service_not_node_port", "ServiceNotNodePort", ".service.name"),
    ] {
        let mut world = World::new(&services);
        world.apply(&ingress("x", &format!("rule foo.com Prefix /good a:80\nrule foo.com Prefix / {backend}")));
        let translation = world.translate();
        assert_eq!(translation.answer("foo.com", "/"), format!("503 {token}"), "{backend}");
        assert_eq!(translation.answer("foo.com", "/good"), "a", "{backend}");
        assert_eq!(translation.summary(), [format!("Error Ingress default/x spec.rules[1].http.paths[0].backend{field} {reason}")]);
        assert!(translation.findings.iter().all(|finding| !finding.cure.is_empty()));
        assert_eq!(translation.served_ingresses.len(), 1);
    }
}

/// Nodes that are leaving, excluded or without address get nothing; the label counts as true where it is no bool.
#[test]
fn only_candidate_nodes_are_dialled() {
    let labelled =
        |value: &str| format!("metadata: {{name: nn, labels: {{node.kubernetes.io/exclude-from-external-load-balancers: '{value}'}}}}");
    for (what, more, want) in [
        ("plain", READY.to_owned(), true),
        ("cordoned", format!("spec: {{unschedulable: true}}\n{READY}"), true),
        ("tainted otherwise", format!("spec: {{taints: [{{key: node.kubernetes.io/unreachable, effect: NoExecute}}]}}\n{READY}"), true),
        ("tainted", format!("spec: {{taints: [{{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}}]}}\n{READY}"), false),
        ("deleting", format!("metadata: {{name: nn, deletionTimestamp: '2024-01-01T00:00:00Z'}}\n{READY}"), false),
        ("excluded", format!("{}\n{READY}", labelled("")), false),
        ("excluded true", format!("{}\n{READY}", labelled("true")), false),
        ("excluded nonsense", format!("{}\n{READY}", labelled("no")), false),
        ("not excluded", format!("{}\n{READY}", labelled("false")), true),
    ] {
        let document = node("nn", "192.0.2.9", &more);
        let translation = world(&(document + &service_with("a", "", NODE_PORT))).translate();
        let want = if want { vec!["192.0.2.9:30001*1"] } else { vec![] };
        assert_eq!(translation.endpoints_of("a"), want, "{what}");
        assert_eq!(translation.cluster_of("a").refusal, want.is_empty().then_some("no_nodes"), "{what}");
    }
}

/// Nodes of the best tier serve; where none is ready those less trusted do.
#[test]
fn the_best_tier_of_nodes_serves() {
    let in_state =
        |name: &str, conditions: &str| node(name, &format!("192.0.2.{name}"), &format!("status: {{conditions: [{conditions}]}}"));
    let ready = "{type: Ready, status: 'True'}";
    let unknown = "{type: Ready, status: Unknown}";
    let down = "{type: Ready, status: 'False'}";
    let cut_off = "{type: Ready, status: 'True'}, {type: NetworkUnavailable, status: 'True'}";
    for (states, want) in [
        (vec![ready, ready, unknown, down, cut_off, ""], vec![1, 2]),
        (vec![unknown, "", down, cut_off], vec![1, 2]),
        (vec![down, cut_off], vec![1, 2]),
    ] {
        let nodes: String = states.iter().enumerate().map(|(index, state)| in_state(&(index + 1).to_string(), state)).collect();
        let want: Vec<_> = want.iter().map(|last| format!("192.0.2.{last}:30001*1")).collect();
        assert_eq!(endpoints(&(nodes + &service_with("a", "", NODE_PORT))), want, "{states:?}");
    }
}

/// Each node is dialled at its first InternalIP of the family that the Service prefers, and at no other address.
#[test]
fn nodes_are_dialled_at_their_first_internal_address() {
    let addresses = "status: {addresses: [{type: ExternalIP, address: 203.0.113.1}, {type: InternalIP, address: 192.0.2.1}, \
                     {type: InternalIP, address: '2001:db8::1'}, {type: InternalIP, address: 192.0.2.2}]}";
    let both = format!("\n---\nkind: Node\nmetadata: {{name: both}}\n{addresses}\n");
    let none = "\n---\nkind: Node\nmetadata: {name: none}\nstatus: {addresses: [{type: ExternalIP, address: 203.0.113.9}]}\n";
    for (families, want) in
        [("", "192.0.2.1:30001*1"), ("ipFamilies: [IPv4], ", "192.0.2.1:30001*1"), ("ipFamilies: [IPv6, IPv4], ", "[2001:db8::1]:30001*1")]
    {
        let translation = world(&(both.clone() + none + &service_with("a", "", &format!("{families}{NODE_PORT}")))).translate();
        assert_eq!(translation.endpoints_of("a"), [want], "{families}");
        assert_eq!(translation.summary(), ["Warning Node none status.addresses NoInternalAddress"]);
    }
}

/// Behind externalTrafficPolicy Cluster every node serves alike, while any pod can; a Service nobody has listed pods of is tried.
#[test]
fn every_node_serves_where_any_may() {
    let nodes = node("1", "192.0.2.1", READY) + &node("2", "192.0.2.2", READY);
    let all = ["192.0.2.1:30001*1", "192.0.2.2:30001*1"];
    let ending = "{addresses: [10.1.0.1], conditions: {ready: false, serving: true, terminating: true}}";
    let unready = "{addresses: [10.1.0.1], conditions: {ready: false}}";
    for (pods, want, count) in [
        (slice("a", "http", "{addresses: [10.1.0.1], nodeName: '1'}, {addresses: [10.1.0.2]}"), &all[..], 2),
        (slice("a", "http", ending), &all[..], 1),
        (slice("a", "http", unready), &[], 0),
        (slice("a", "http", ""), &[], 0),
        (String::new(), &all[..], 0),
    ] {
        let translation = world(&(nodes.clone() + &service_with("a", "", NODE_PORT) + &pods)).translate();
        assert_eq!(translation.endpoints_of("a"), want, "{pods}");
        let cluster = translation.cluster_of("a");
        assert_eq!((cluster.pods, cluster.opaque_endpoints, cluster.refusal), (count, true, None), "{pods}");
        assert_eq!(reasons(&translation), if want.is_empty() { vec!["NoEndpoints"] } else { vec![] });
    }
}

/// Behind externalTrafficPolicy Local only nodes with pods serve, by the number of their ready pods; those whose last pod is ending
/// serve only where no pod is ready anywhere.
#[test]
fn local_traffic_goes_to_nodes_with_pods() {
    let nodes = node("1", "192.0.2.1", READY) + &node("2", "192.0.2.2", READY) + &node("3", "192.0.2.3", READY);
    let pod = |last: u8, node: &str, state: &str| format!("{{addresses: [10.1.0.{last}], nodeName: '{node}'{state}}}");
    let ending = ", conditions: {ready: false, serving: true, terminating: true}";
    let gone = ", conditions: {ready: false, serving: false, terminating: true}";
    for (pods, want) in [
        (vec![pod(1, "1", ""), pod(2, "1", ""), pod(3, "2", "")], vec!["192.0.2.1:30001*2", "192.0.2.2:30001*1"]),
        (vec![pod(1, "1", ""), pod(2, "2", ending)], vec!["192.0.2.1:30001*1"]),
        (vec![pod(1, "1", ending), pod(2, "2", gone), pod(3, "3", ending)], vec!["192.0.2.1:30001*1", "192.0.2.3:30001*1"]),
        (vec![pod(1, "unlisted", ""), "{addresses: [10.1.0.9]}".to_owned()], vec![]),
        (vec![], vec![]),
    ] {
        let slices = slice("a", "http", &pods.join(", "));
        assert_eq!(endpoints(&(nodes.clone() + &service_with("a", "", LOCAL) + &slices)), want, "{pods:?}");
    }
    let none = world(&(nodes + &service_with("a", "", LOCAL))).translate();
    assert_eq!((none.endpoints_of("a"), reasons(&none)), (vec![], vec!["NoEndpoints"]));
}

/// In `endpoints` mode pods are dialled themselves: the ready ones of all slices, each once, in the family that the Service prefers.
#[test]
fn ready_pods_are_dialled_themselves() {
    let ending = ", conditions: {ready: false, serving: true, terminating: true}";
    let v6 = slice_of("a", "6", "IPv6", "http", "{addresses: ['2001:db8::1']}");
    let two = slice("a", "http", "{addresses: [10.1.0.2]}, {addresses: [10.1.0.1], conditions: {ready: true}}");
    let again = slice_of("a", "2", "IPv4", "http", "{addresses: [10.1.0.2]}, {addresses: [10.1.0.3, 10.1.0.4]}");
    for (pods, families, want) in [
        (two.clone(), "", vec!["10.1.0.1:8080*1", "10.1.0.2:8080*1"]),
        (two.clone() + &again, "", vec!["10.1.0.1:8080*1", "10.1.0.2:8080*1", "10.1.0.3:8080*1", "10.1.0.4:8080*1"]),
        (two.clone() + &v6, "", vec!["10.1.0.1:8080*1", "10.1.0.2:8080*1"]),
        (two.clone() + &v6, "ipFamilies: [IPv6, IPv4], ", vec!["[2001:db8::1]:8080*1"]),
        (v6, "", vec!["[2001:db8::1]:8080*1"]),
        (slice("a", "http", &format!("{{addresses: [10.1.0.1]}}, {{addresses: [10.1.0.2]{ending}}}")), "", vec!["10.1.0.1:8080*1"]),
        (slice("a", "http", &format!("{{addresses: [10.1.0.2]{ending}}}")), "", vec!["10.1.0.2:8080*1"]),
        (slice("a", "http", "{addresses: [10.1.0.2], conditions: {ready: false}}"), "", vec![]),
    ] {
        let mut world = world(&(service_with("a", "", &format!("{families}{CLUSTER_IP}")) + &pods));
        world.options.backend_mode = BackendMode::Endpoints;
        let translation = world.translate();
        assert_eq!(translation.endpoints_of("a"), want, "{families}{pods}");
        assert!(!translation.cluster_of("a").opaque_endpoints);
    }
}

/// A slice that names the port otherwise has no pods for it, and the names it has are said.
#[test]
fn ports_of_slices_go_by_name() {
    let mut world = world(&(service_with("a", "", CLUSTER_IP) + &slice("a", "web", "{addresses: [10.1.0.1]}")));
    world.options.backend_mode = BackendMode::Endpoints;
    let translation = world.translate();
    assert_eq!(translation.endpoints_of("a"), [""; 0]);
    let said = translation.said("EndpointPortNotFound");
    assert!(said.len() == 1 && said[0].message.contains("\"http\"") && said[0].cure.contains("\"web\""), "{said:?}");
}

/// Addresses that only this host can reach are refused one by one; manifests may name loopback.
#[test]
fn forbidden_addresses_are_not_dialled() {
    let pods = "{addresses: [127.0.0.1]}, {addresses: [169.254.169.254]}, {addresses: [10.1.0.1]}, {addresses: [nonsense]}";
    let yaml = service_with("a", "", CLUSTER_IP) + &slice("a", "http", pods);
    for (allow_loopback, want, refused) in [(false, vec!["10.1.0.1:8080*1"], 3), (true, vec!["10.1.0.1:8080*1", "127.0.0.1:8080*1"], 2)] {
        let mut world = world(&yaml);
        world.options.backend_mode = BackendMode::Endpoints;
        world.options.allow_loopback = allow_loopback;
        let translation = world.translate();
        assert_eq!(translation.endpoints_of("a"), want);
        let said = translation.said("AddressRefused");
        assert!(said.len() == refused && said.iter().all(|finding| finding.kind == "EndpointSlice"), "{said:?}");
        assert!(said.iter().any(|finding| finding.field == "endpoints[1].addresses[0]"), "{said:?}");
    }
}

/// In `lb-ip` mode the addresses of the load balancer are dialled at the port of the Service.
#[test]
fn load_balancers_are_dialled_at_their_addresses() {
    let of = |status: &str| {
        let yaml = service_with("a", "corelane.dev/backend-mode: lb-ip", "type: LoadBalancer, ports: [{port: 80}]");
        world(&format!("{yaml}status: {{loadBalancer: {{ingress: [{status}]}}}}\n")).translate()
    };
    let translation = of("{ip: 203.0.113.2}, {hostname: lb.example.com}, {ip: 203.0.113.1}");
    assert_eq!(translation.endpoints_of("a"), ["203.0.113.1:80*1", "203.0.113.2:80*1"]);
    assert!(translation.cluster_of("a").opaque_endpoints && translation.findings.is_empty());
    let waiting = of("{hostname: lb.example.com}");
    assert_eq!(waiting.cluster_of("a").refusal, Some("no_load_balancer_address"));
    assert_eq!(reasons(&waiting), ["NoLoadBalancerAddress"]);
}

/// The word of a Service beats the global mode; a word that is none is said and does not count.
#[test]
fn a_service_chooses_its_mode() {
    let nodes = node("1", "192.0.2.1", READY);
    let pods = slice("a", "http", "{addresses: [10.1.0.1]}");
    for (annotation, global, want, said) in [
        ("", BackendMode::NodePort, "192.0.2.1:30001*1", false),
        ("", BackendMode::Endpoints, "10.1.0.1:8080*1", false),
        ("endpoints", BackendMode::NodePort, "10.1.0.1:8080*1", false),
        ("nodeport", BackendMode::Endpoints, "192.0.2.1:30001*1", false),
        ("pods", BackendMode::Endpoints, "10.1.0.1:8080*1", true),
    ] {
        let service = service_with("a", &format!("corelane.dev/backend-mode: '{annotation}'"), NODE_PORT);
        let mut world = world(&(nodes.clone() + &pods + &service));
        world.options.backend_mode = global;
        let translation = world.translate();
        assert_eq!(translation.endpoints_of("a"), [want], "{annotation}");
        assert_eq!(!translation.said("InvalidAnnotation").is_empty(), said, "{annotation}");
    }
}

/// ClientIP affinity would send everything of this host to one pod wherever kube-proxy chooses: it is said there, and only there.
#[test]
fn client_ip_affinity_is_warned_about() {
    let nodes = node("1", "192.0.2.1", READY) + &slice("a", "http", "{addresses: [10.1.0.1]}");
    for (mode, want) in [(BackendMode::NodePort, vec![Severity::Warning]), (BackendMode::Endpoints, vec![])] {
        let mut world = world(&(nodes.clone() + &service_with("a", "", &format!("sessionAffinity: ClientIP, {NODE_PORT}"))));
        world.options.backend_mode = mode;
        let said: Vec<_> = world.translate().said("SessionAffinityPinsPods").iter().map(|finding| finding.severity).collect();
        assert_eq!(said, want, "{mode:?}");
    }
}

/// A Service says how its endpoints are checked; what it says wrong is said and not done.
#[test]
fn a_service_chooses_its_health_check() {
    for (annotations, want, said) in [
        ("", None, 0),
        ("corelane.dev/health-check: tcp", Some((None, 5, 2)), 0),
        ("corelane.dev/health-check: /healthz, corelane.dev/health-check-interval: '1'", Some((Some("/healthz"), 1, 1)), 0),
        ("corelane.dev/health-check: /h, corelane.dev/health-check-timeout: '3'", Some((Some("/h"), 5, 3)), 0),
        ("corelane.dev/health-check: tcp, corelane.dev/health-check-interval: '0'", Some((None, 5, 2)), 1),
        ("corelane.dev/health-check: http", None, 1),
        ("corelane.dev/health-check: \"/a\\r\\nHost: b\"", None, 1),
    ] {
        let translation = world(&(node("1", "192.0.2.1", READY) + &service_with("a", annotations, NODE_PORT))).translate();
        let check = translation.cluster_of("a").health_check.clone();
        let got = check.as_ref().map(|check| (check.http_path.as_deref(), check.interval.as_secs(), check.timeout.as_secs()));
        assert_eq!(got, want, "{annotations}");
        assert_eq!(translation.said("InvalidAnnotation").len(), said, "{annotations}");
    }
}

/// The port on which nodes answer for their own pods is known where kube-proxy drops what reaches a wrong node.
#[test]
fn the_health_port_of_local_services_is_known() {
    let nodes = node("1", "192.0.2.1", READY) + &slice("a", "http", "{addresses: [10.1.0.1], nodeName: '1'}");
    for (spec, want) in
        [(format!("healthCheckNodePort: 31000, {LOCAL}"), Some(31000)), (LOCAL.to_owned(), None), (NODE_PORT.to_owned(), None)]
    {
        let translation = world(&(nodes.clone() + &service_with("a", "", &spec))).translate();
        assert_eq!(translation.cluster_of("a").health_node_port, want, "{spec}");
    }
}
