//! The lines to try, each with what it answers; a test runs every one of them.

use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the demo listens, known once it does.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: SocketAddr,
}

/// What is printed when the demo serves.
pub struct Invitation {
    pub(super) directory: PathBuf,
    pub(super) certificate: PathBuf,
    pub addresses: Addresses,
}

/// One line to try.
struct Line {
    about: &'static str,
    command: String,
    answer: Answer,
}

/// What a line prints.
enum Answer {
    /// This and nothing else.
    Prints(String),
    /// This among other things.
    Contains(String),
}

impl Invitation {
    fn lines(&self) -> Vec<Line> {
        let (http, https) = (self.addresses.http.port(), self.addresses.https.port());
        let on = |host: &str, port: u16, path: &str, scheme: &str| {
            format!("{}{scheme}://{host}.localhost:{port}{path}", self.resolve(host, port))
        };
        let plain = |host: &str, path: &str| on(host, http, path, "http");
        let status = |url: &str| format!("curl -s -o /dev/null -w '%{{http_code}}\\n' {url}");
        let redirect = |url: &str| format!("curl -s -o /dev/null -w '%{{http_code}} %{{redirect_url}}\\n' {url}");
        let line = |about, command, answer| Line { about, command, answer };
        let pod = |name: &str| Answer::Contains(format!("\"pod\": \"{name}"));
        let prints = |text: &str| Answer::Prints(text.to_owned());
        let certificate = self.certificate.display();
        vec![
            line("a host, and two pods in turn", format!("curl -s {}", plain("blog", "/")), pod("reader-")),
            line("a longer path, through a NodePort", format!("curl -s {}", plain("blog", "/feed/today")), pod("feed-1")),
            line("an exact path beats the same prefix", format!("curl -s {}", plain("blog", "/feed")), pod("reader-")),
            line("a string prefix, as ingress-nginx has it", format!("curl -s {}", plain("blog", "/images/1.png")), pod("feed-1")),
            line(
                "an expression and a rewrite",
                format!("curl -s '{}'", plain("api", "/v1/posts?page=2")),
                Answer::Contains("\"path\": \"/posts?page=2\"".to_owned()),
            ),
            line("http goes to https", redirect(&plain("shop", "/cart")), prints(&format!("308 https://shop.localhost:{https}/cart"))),
            line(
                "TLS with the certificate of a Secret",
                format!("curl -s --cacert {certificate} {}", on("shop", https, "/cart", "https")),
                pod("cart-1"),
            ),
            line("the canary, asked for", format!("curl -s -H 'X-Canary: always' {}", plain("blog", "/")), pod("reader-next-1")),
            line("a password is wanted", status(&plain("private", "/")), prints("401")),
            line("and taken", format!("curl -s -u demo:edge {}", plain("private", "/")), pod("feed-1")),
            line(
                "two requests at once, then one a second",
                format!("curl -s -o /dev/null -w '%{{http_code}} ' '{}'", plain("limited", "/[1-5]")),
                prints("200 200 503 503 503 "),
            ),
            line("a whole host that has moved", redirect(&plain("moved", "/a/b")), prints("301 https://example.com/new-home")),
            line("a host of nobody", status(&plain("nobody", "/")), prints("404")),
        ]
    }

    /// Names below `localhost` are this machine for curl; a listener elsewhere must be named.
    fn resolve(&self, host: &str, port: u16) -> String {
        let address = if port == self.addresses.https.port() { self.addresses.https } else { self.addresses.http };
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() || ip == std::net::Ipv4Addr::LOCALHOST => String::new(),
            IpAddr::V6(ip) if ip.is_unspecified() || ip.is_loopback() => String::new(),
            ip => format!("--resolve {host}.localhost:{port}:{ip} "),
        }
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let admin = self.addresses.admin;
        writeln!(f, "Corelane serves the manifests in {}\nEdit them: a change is served at once.\n\nTry", self.directory.display())?;
        for line in self.lines() {
            let (verb, text) = match &line.answer {
                Answer::Prints(text) => ("prints", text),
                Answer::Contains(text) => ("contains", text),
            };
            writeln!(f, "\n  # {}\n  {}\n  # {verb}: {text}", line.about, line.command)?;
        }
        writeln!(f, "\nLook inside: http://{admin}/ and `corelane status --admin {admin}`")?;
        writeln!(f, "Ask why:     corelane explain --admin {admin} GET http://blog.localhost:{}/feed/today", self.addresses.http.port())?;
        writeln!(f, "Ctrl-C ends the demo.")
    }
}
