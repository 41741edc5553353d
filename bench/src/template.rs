//! Text with `{{names}}` and loops in it, filled in with what a run gives to every proxy.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;

use minijinja::AutoEscape;
use minijinja::Environment;
use minijinja::UndefinedBehavior;
use minijinja::Value;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use serde::Serialize;

/// What templates may name.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Names {
    /// Where the rendered files are.
    pub directory: String,
    /// Where it listens: the address of all, the addresses with their ports, and the ports alone.
    pub ip: String,
    pub http: String,
    pub https: String,
    pub admin: String,
    pub http_port: u16,
    pub https_port: u16,
    pub admin_port: u16,
    /// Files with the certificate, with its key, and with both.
    pub certificate: String,
    pub key: String,
    pub certificate_and_key: String,
    pub certificate_base64: String,
    pub key_base64: String,
    /// The members of cluster a, which may change.
    pub endpoints: Vec<Endpoint>,
    /// The members of cluster b, which do not.
    pub steady_endpoints: Vec<Endpoint>,
    /// The port all of them share.
    pub endpoint_port: u16,
    /// Hosts added since the start, all of whose paths lead to cluster a.
    pub added: Vec<String>,
    /// What the latest change has done to cluster a, and to the added hosts.
    pub swapped: Vec<Swap>,
    pub added_now: Vec<String>,
    pub removed_now: Vec<String>,
    /// Further hosts, each with `/api/` and `/static/` to cluster a and all else to b; one may be a wildcard.
    pub hosts: Vec<String>,
}

/// One member of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Endpoint {
    pub address: SocketAddr,
    pub ip: IpAddr,
    pub port: u16,
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { address, ip: address.ip(), port: address.port() }
    }
}

/// A place in a cluster whose member has changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Swap {
    pub place: usize,
    pub endpoint: Endpoint,
}

/// Fills a template in; `called` is what a fault calls it.
///
/// # Errors
/// With the template and the line or the name at fault: what is not known is never rendered as nothing.
pub(crate) fn render(called: &str, template: &str, names: &impl Serialize) -> io::Result<String> {
    let known = Value::from(Serde(names));
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    // A line that holds nothing but a loop's begin or end leaves no line behind.
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    engine.set_syntax(syntax.build().map_err(io::Error::other)?);
    let template = engine.template_from_named_str(called, template).map_err(io::Error::other)?;
    // The engine itself tells the line of an unknown name, not the name.
    let mut unknown: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    unknown.retain(|name| known.get_attr(name).map_or(true, |value| value.is_undefined()));
    unknown.sort();
    if !unknown.is_empty() {
        return Err(io::Error::other(format!("{called}: nothing is called {}", unknown.join(", "))));
    }
    template.render(known).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn names() -> BTreeMap<&'static str, Vec<&'static str>> {
        BTreeMap::from([("hosts", vec!["a{{b}}", "<c>"])])
    }

    /// Names become values, values are neither looked into nor escaped, the rest stays to its last line feed.
    #[test]
    fn a_template_is_rendered_once() {
        let rendered = render("x.yaml", "{% for host in hosts %}[{{host}}]{% endfor %} { a }} b }\n", &names()).unwrap();
        assert_eq!(rendered, "[a{{b}}][<c>] { a }} b }\n");
    }

    /// A name nobody knows is a fault that says which and where, inside of a loop and out.
    #[test]
    fn an_unknown_name_is_a_fault() {
        for template in ["{{port}}", "{% for host in hosts %}{{port}}{% endfor %}", "{% for host in port %}{% endfor %}"] {
            let fault = render("nginx.conf", template, &names()).unwrap_err().to_string();
            assert!(fault.contains("nginx.conf") && fault.contains("port"), "{fault}");
        }
        let fault = render("nginx.conf", "\n{{hosts.port}}", &names()).unwrap_err().to_string();
        assert!(fault.contains("nginx.conf:2"), "{fault}");
    }

    /// What does not end is a fault.
    #[test]
    fn an_open_name_is_a_fault() {
        for template in ["{{hosts", "{% for host in hosts %}"] {
            assert!(render("nginx.conf", template, &names()).unwrap_err().to_string().contains("nginx.conf"), "{template}");
        }
    }
}
