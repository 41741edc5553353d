//! A host that has run out of something blames no endpoint, says what it lacks, and goes on as soon as there is some again.
//!
//! Ports run out in a network of the test's own, which has only a few of them; that takes CAP_SYS_ADMIN. Without it there is nothing
//! to see, and the test says so.

mod support;

use std::net::SocketAddr;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use support::client::Client;
use support::client::Response;
use support::edge::Corelane;
use support::edge::sum_of;
use support::eventually;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::tls::Authority;
use support::upstream::Upstream;
use support::upstream::echo;

/// Ports of that network: the ones that the processes in it listen on are among them.
const PORTS: usize = 60;

/// No port is left towards one endpoint: another one is asked, and where there is none the answer is 503 and says why. Neither counts
/// against the endpoint, which is asked again as soon as a port is free.
#[test]
fn without_a_port_other_endpoints_are_asked() {
    if !enter_small_network() {
        eprintln!("skipped: a network of one's own takes CAP_SYS_ADMIN");
        return;
    }
    let held = Upstream::scripted(|mut visit| {
        while let Some(request) = visit.request() {
            if request.target == "/hold" {
                visit.stay_silent();
                return;
            }
            let _gone = visit.send(echo("held", &request));
        }
    });
    let free = Upstream::echo("free");
    let authority = Authority::new();
    let config = authority.client();
    let edge = Corelane::start(&manifests(held.address, free.address, &authority));
    let mut holders = Vec::new();
    let refused = (0..PORTS).find_map(|number| {
        // Clients need ports too: towards two listeners there are twice as many.
        let mut client = if number % 2 == 0 { Client::connect(edge.http) } else { Client::connect_tls(edge.https, &config, "one.test") };
        let before = held.count();
        client.send("GET /hold HTTP/1.1\r\nHost: one.test\r\n\r\n");
        let answer = eventually("it is held or answered", || {
            client.set_patience(Duration::from_millis(20));
            match client.fill() {
                Ok(_) => Some(Some(client.response())),
                Err(_) if held.count() > before => Some(None),
                Err(_) => None,
            }
        });
        holders.push(client);
        answer
    });
    let refused: Response = refused.expect("there are more connections than ports");
    assert_eq!((refused.status, refused.field("corelane-reason")), (503, Some("local_ports_exhausted")));
    let mut last = holders.pop().expect("the one that was answered");
    for number in 0..20 {
        let answer = last.get("two.test", "/");
        assert_eq!(answer.status, 200, "request {number}");
        assert!(answer.text().starts_with("free\n"), "request {number}: {}", answer.text());
    }
    // Had one refusal been held against it, it would rest for many requests.
    let tried = sum_of(&edge.settled_metrics(), "corelane_retries_total", "");
    assert!(tried >= 8.0, "the endpoint was asked {tried} times for 20 requests: it was blamed for what its host lacks");
    holders.into_iter().for_each(Client::reset);
    held.wait_until_idle();
    eventually("it is asked with success", || last.get("two.test", "/").text().starts_with("held\n").then_some(()));
}

/// `one.test` at the first endpoint alone, `two.test` at both.
fn manifests(held: SocketAddr, free: SocketAddr, authority: &Authority) -> Manifests {
    let ingress = |name: &str| {
        let host = format!("{name}.test");
        Ingress::new(name).annotation("ssl-redirect", "false").tls(&host, "tls").host(&host, name)
    };
    Manifests::new()
        .tls_secret("tls", &authority.ecdsa(&["one.test", "two.test"]))
        .service("one", &[held])
        .service("two", &[held, free])
        .ingress(&ingress("one"))
        .ingress(&ingress("two"))
}

/// Moves this thread, and whatever it starts from here on, into a network of its own with few ports; false where that is forbidden.
fn enter_small_network() -> bool {
    #[expect(unsafe_code, reason = "std knows no namespaces")]
    // SAFETY: no pointer is passed; only this thread changes its network.
    let entered = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    if entered {
        bring_loopback_up();
        let range = format!("40000 {}", 40_000 + PORTS - 1);
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).expect("a network of one's own has settings of its own");
    }
    entered
}

fn bring_loopback_up() {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    #[expect(unsafe_code, reason = "std knows no interfaces")]
    // SAFETY: a C struct and a union of integers, for which all zeroes is a value; the request reads the name, which ends with a zero,
    // and the flags.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
