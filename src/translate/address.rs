//! Which addresses an object may send us to.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// Where clouds serve credentials to their machines, outside the link-local range that they also use.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// The address to dial, an IPv4 one as such however it is written.
///
/// # Errors
/// Why Corelane does not dial it: whoever may write an EndpointSlice would otherwise make it fetch what only this host can reach.
pub(crate) fn check(written: &str, allow_loopback: bool) -> Result<IpAddr, &'static str> {
    let address = written.parse::<IpAddr>().map_err(|_| "is no IP address")?.to_canonical();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    match address {
        _ if address.is_loopback() && !allow_loopback => Err("is a loopback address"),
        _ if link_local => Err("is link-local, where clouds serve credentials"),
        _ if METADATA.contains(&address) => Err("is an address where clouds serve credentials"),
        _ if address.is_unspecified() => Err("is the unspecified address"),
        _ if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) => Err("is no address of one host"),
        _ => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing but ordinary addresses is dialled; loopback in manifests only, credentials of clouds never.
    #[test]
    fn only_ordinary_addresses_are_dialled() {
        for (written, cluster, manifests) in [
            ("10.0.0.1", true, true),
            ("192.0.2.1", true, true),
            ("2001:db8::1", true, true),
            ("fd00::1", true, true),
            ("127.0.0.1", false, true),
            ("127.9.9.9", false, true),
            ("::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("169.254.1.1", false, false),
            ("fe80::1", false, false),
            ("fd00:ec2::254", false, false),
            ("100.100.100.200", false, false),
            ("0.0.0.0", false, false),
            ("::", false, false),
            ("224.0.0.1", false, false),
            ("ff02::1", false, false),
            ("255.255.255.255", false, false),
            ("localhost", false, false),
            ("10.0.0.1:80", false, false),
            ("", false, false),
        ] {
            assert_eq!(check(written, false).is_ok(), cluster, "{written} in a cluster");
            assert_eq!(check(written, true).is_ok(), manifests, "{written} in manifests");
        }
    }
}
