//! How the text of one setting becomes its value, the same for flag, variable and file; a refusal says what would be right.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::control::SecretsMode;
use crate::explain::Output;
use crate::shard::Placement;
use crate::snapshot::finding::ObjectKey;
use crate::telemetry::access_log::Destination;
use crate::telemetry::access_log::Format;
use crate::telemetry::program_log::Level;
use crate::translate::BackendMode;

/// The longest time that can be set, in seconds: a day.
const SECONDS_MAX: u64 = 86_400;
/// The most shards.
const SHARDS_MAX: usize = 1024;

/// One of a closed list of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<T>(pub(super) T);

/// A value that has a word of its own.
pub(super) trait Named: Copy + Send + Sync + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl Named for BackendMode {
    const WORDS: &'static [(&'static str, Self)] = &[("nodeport", Self::NodePort), ("endpoints", Self::Endpoints), ("lb-ip", Self::LbIp)];
}

impl Named for SecretsMode {
    const WORDS: &'static [(&'static str, Self)] = &[("watch", Self::Watch), ("get", Self::Get)];
}

impl Named for Format {
    const WORDS: &'static [(&'static str, Self)] = &[("json", Self::Json), ("text", Self::Text)];
}

impl Named for Output {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Named for Level {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("off", Self::OFF),
        ("error", Self::ERROR),
        ("warn", Self::WARN),
        ("info", Self::INFO),
        ("debug", Self::DEBUG),
        ("trace", Self::TRACE),
    ];
}

impl<T: Named> FromStr for Word<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = T::WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, value)| Self(*value)).ok_or_else(|| {
            let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
            format!("`{text}` is none of {}", words.join(", "))
        })
    }
}

/// A number of whole seconds, up to a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(seconds) if seconds <= SECONDS_MAX => Ok(Self(Duration::from_secs(seconds))),
            _ => Err(format!("`{text}` is no number of seconds: write a whole number from 0 to {SECONDS_MAX}")),
        }
    }
}

/// A number of shards, or the CPUs they are pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shards(pub(super) Placement);

impl FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither a number of shards from 1 to {SHARDS_MAX} nor a list of CPUs such as `0,2-5` or `3,`");
        if let Ok(count) = text.parse() {
            return if (1..=SHARDS_MAX).contains(&count) { Ok(Self(Placement::Count(count))) } else { Err(wrong()) };
        }
        let mut cpus = BTreeSet::new();
        // A comma at the end makes a list of a single CPU.
        for part in text.strip_suffix(',').unwrap_or(text).split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) else { return Err(wrong()) };
            if first > last || last >= SHARDS_MAX {
                return Err(wrong());
            }
            cpus.extend(first..=last);
        }
        Ok(Self(Placement::Cpus(cpus.into_iter().collect())))
    }
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address(pub(super) SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("`{text}` is no address with a port: write `0.0.0.0:80`, `[::]:80` or `127.0.0.1:0`"))
    }
}

/// `namespace/name` of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object(pub(super) ObjectKey);

impl FromStr for Object {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self(ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() }))
            }
            _ => Err(format!("`{text}` names no object: write NAMESPACE/NAME")),
        }
    }
}

/// A DNS name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DnsName(pub(super) String);

impl FromStr for DnsName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_label = |label: &str| match label.as_bytes() {
            [] => false,
            [only] => is_end(*only),
            [first, middle @ .., last] => is_end(*first) && is_end(*last) && middle.iter().all(|byte| is_end(*byte) || *byte == b'-'),
        };
        if text.len() <= 253 && text.split('.').all(is_label) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("`{text}` is no DNS name: write lower-case letters, digits and `-`, in parts joined by `.`"))
    }
}

/// What clients reach this edge by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published(pub(super) String);

impl FromStr for Published {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Four numbers look like a name: an address with a typo is neither.
        let looks_like_ipv4 = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if text.parse::<IpAddr>().is_ok() || (!looks_like_ipv4 && text.parse::<DnsName>().is_ok()) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("`{text}` is neither an IP address nor a host name: write `192.0.2.1`, `2001:db8::1` or `edge.example.com`"))
    }
}

/// Where lines of the access log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogTo(pub(super) Destination);

impl FromStr for LogTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("an empty destination: write `stdout`, `off` or a path".to_owned()),
            "stdout" => Ok(Self(Destination::Stdout)),
            "off" => Ok(Self(Destination::Off)),
            path => Ok(Self(Destination::File(PathBuf::from(path)))),
        }
    }
}

/// A field of a request, as curl takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: String,
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() => Ok(Self { name: name.trim().to_owned(), value: value.trim().to_owned() }),
            _ => Err(format!("`{text}` is no field: write 'Name: value'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shards are a number or a list of CPUs; nothing else is guessed at.
    #[test]
    fn shards_are_a_number_or_a_list() {
        for (text, want) in [
            ("4", Some(Placement::Count(4))),
            ("0,2-5", Some(Placement::Cpus(vec![0, 2, 3, 4, 5]))),
            ("3,", Some(Placement::Cpus(vec![3]))),
            ("2-2", Some(Placement::Cpus(vec![2]))),
            ("5,1,5", Some(Placement::Cpus(vec![1, 5]))),
            ("0", None),
            ("1025", None),
            ("5-2", None),
            ("", None),
            (",", None),
            ("a", None),
            ("1,,2", None),
            ("-1", None),
            ("1-4096", None),
        ] {
            assert_eq!(text.parse::<Shards>().ok().map(|shards| shards.0), want, "{text:?}");
        }
    }

    /// What clients reach an edge by is an address of either family or a name.
    #[test]
    fn an_edge_is_reached_by_address_or_name() {
        for text in ["192.0.2.1", "2001:db8::1", "edge.example.com", "edge", "4u.example"] {
            assert_eq!(text.parse::<Published>(), Ok(Published(text.to_owned())), "{text}");
        }
    }

    /// What is refused says what would be right.
    #[test]
    fn refusals_name_what_is_right() {
        let refusals = [
            ("node-port".parse::<Word<BackendMode>>().err(), "nodeport, endpoints, lb-ip"),
            ("-1".parse::<Seconds>().err(), "0 to 86400"),
            ("5m".parse::<Seconds>().err(), "whole number"),
            ("86401".parse::<Seconds>().err(), "86400"),
            (":80".parse::<Address>().err(), "`0.0.0.0:80`"),
            ("80".parse::<Address>().err(), "`0.0.0.0:80`"),
            ("name".parse::<Object>().err(), "NAMESPACE/NAME"),
            ("a/b/c".parse::<Object>().err(), "NAMESPACE/NAME"),
            ("".parse::<DnsName>().err(), "lower-case letters"),
            ("nginx.ingress.kubernetes.io/".parse::<DnsName>().err(), "joined by `.`"),
            ("not a host!".parse::<Published>().err(), "`edge.example.com`"),
            ("192.0.2.256".parse::<Published>().err(), "`192.0.2.1`"),
            ("192.0.2.1:80".parse::<Published>().err(), "`192.0.2.1`"),
            ("".parse::<LogTo>().err(), "`stdout`"),
            ("X-Canary".parse::<Field>().err(), "'Name: value'"),
        ];
        for (refusal, cure) in refusals {
            let Some(text) = refusal else { panic!("accepted, {cure} was expected") };
            assert!(text.contains(cure), "{text}");
        }
    }
}
