//! Values of annotations and of ConfigMap keys: each form is parsed once, at the door.

use std::time::Duration;

use ipnet::IpNet;

use crate::snapshot::cluster::Balance;
use crate::snapshot::rule::Retry;

/// Longest number of seconds that is taken as one: ten years.
const SECONDS_MAX: i64 = 10 * 365 * 24 * 3600;

/// The eight spellings of a boolean that Go's `strconv.ParseBool` knows, and no other.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// nginx's own kind of boolean.
pub(crate) fn on_off(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// A whole number, with a sign as Go's `strconv.Atoi` allows.
pub(crate) fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// A whole number from 0 on.
pub(crate) fn count(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// Seconds without a unit, at least one: a limit of no time would refuse everything.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    let seconds = integer(text).filter(|seconds| (1..=SECONDS_MAX).contains(seconds))?;
    Some(Duration::from_secs(seconds.unsigned_abs()))
}

/// Seconds without a unit, where zero means that there is no limit.
pub(crate) fn seconds_or_zero(text: &str) -> Option<Duration> {
    if integer(text) == Some(0) { Some(Duration::ZERO) } else { seconds(text) }
}

/// A time as nginx and Go write it, one number and one unit (`75`, `75s`, `10m`, `1h`, `500ms`), at least a millisecond.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit_ms: u64 = match &text[digits..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let ms = number.checked_mul(unit_ms).filter(|ms| (1..=SECONDS_MAX.unsigned_abs() * 1000).contains(ms))?;
    Some(Duration::from_millis(ms))
}

/// Bytes as nginx writes them: a number, and `k`, `m` or `g` in either case (`b` changes nothing).
pub(crate) fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'b' => (&text[..text.len() - 1], 1),
        b'k' => (&text[..text.len() - 1], 1 << 10),
        b'm' => (&text[..text.len() - 1], 1 << 20),
        b'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// One range of addresses, or one address.
pub(crate) fn range(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse::<IpNet>().map(|range| range.trunc()).ok().or_else(|| text.parse::<std::net::IpAddr>().map(IpNet::from).ok())
}

/// A comma list of ranges and addresses, at least one.
pub(crate) fn ranges(text: &str) -> Option<Vec<IpNet>> {
    text.split(',').map(range).collect()
}

/// The items of a comma list, without spaces around them and without empty ones.
pub(crate) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Largest compiled expression, in bytes.
const EXPRESSION_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of an expression.
const EXPRESSION_DEPTH_MAX: u32 = 50;

/// How dangerous ingress-nginx holds an annotation to be (`annotations-risk-level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    Low,
    Medium,
    High,
    Critical,
}

impl Risk {
    /// The level of this name, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [(Self::Low, "low"), (Self::Medium, "medium"), (Self::High, "high"), (Self::Critical, "critical")]
            .into_iter()
            .find_map(|(risk, name)| text.eq_ignore_ascii_case(name).then_some(risk))
    }
}

/// All tries, the first included; 0 sets no bound (`proxy-next-upstream-tries`).
pub(crate) fn tries(text: &str) -> Option<u32> {
    count(text).map(|tries| if tries == 0 { u32::MAX } else { tries })
}

/// How endpoints are chosen (`load-balance`).
pub(crate) fn balance(text: &str) -> Option<Balance> {
    match text {
        "round_robin" => Some(Balance::RoundRobin),
        "ewma" => Some(Balance::PeakEwma),
        _ => None,
    }
}

/// `base` with the conditions for another try that `text` lists (`proxy-next-upstream`); `off` is none at all.
pub(crate) fn retry_conditions(text: &str, base: Retry) -> Option<Retry> {
    let mut retry = Retry { on_error: false, on_timeout: false, non_idempotent: false, on_status: 0, ..base };
    let mut off = false;
    for word in text.split_ascii_whitespace() {
        match word {
            "error" => retry.on_error = true,
            "timeout" => retry.on_timeout = true,
            // An answer that is none counts as an error here.
            "invalid_header" => {}
            "non_idempotent" => retry.non_idempotent = true,
            "off" => off = true,
            _ => {
                let status: u16 = word.strip_prefix("http_")?.parse().ok()?;
                retry.on_status |= 1 << Retry::STATUSES.iter().position(|known| *known == status)?;
            }
        }
    }
    Some(if off { Retry { on_error: false, on_timeout: false, non_idempotent: false, on_status: 0, ..base } } else { retry })
}

/// An expression that runs in linear time and is small when compiled.
pub(crate) fn expression(text: &str) -> Option<regex::Regex> {
    regex::RegexBuilder::new(text).size_limit(EXPRESSION_BYTES_MAX).nest_limit(EXPRESSION_DEPTH_MAX).build().ok()
}

/// Letters, digits and `-._~/:` (ingress-nginx's BasicChars).
pub(crate) fn is_basic(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte))
}

/// What a URL is made of, without any variable (ingress-nginx's URLIsValid).
pub(crate) fn is_url(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/:,?&=".contains(&byte))
}

/// What a URL with nginx variables is made of.
pub(crate) fn is_url_with_variables(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/:, ?&=$".contains(&byte))
}

/// A path with references to captures (ingress-nginx's RegexPathWithCapture).
pub(crate) fn is_rewrite_target(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/:$".contains(&byte))
}

/// A field name of HTTP (RFC 9110 section 5.1).
pub(crate) fn is_field_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A field value that ends no line and hides nothing: visible characters, spaces and tabs (RFC 9110 section 5.5).
pub(crate) fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f)
}

/// A name of an object as the API server admits it (RFC 1123 subdomain).
pub(crate) fn is_object_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// A host name, perhaps with one star in front, in lower case; `None` where it can be no host of an Ingress.
pub(crate) fn host(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    is_object_name(name).then_some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Booleans are Go's, and nothing that only looks like one.
    #[test]
    fn booleans_are_those_of_go() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(boolean(text), Some(true), "{text}");
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(boolean(text), Some(false), "{text}");
        }
        for text in ["", "yes", "on", " true", "true ", "tRue", "2", "true\n"] {
            assert_eq!(boolean(text), None, "{text:?}");
        }
    }

    /// Sizes have at most one unit and never overflow.
    #[test]
    fn sizes_have_one_unit() {
        for (text, want) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("8k", Some(8 << 10)),
            ("1M", Some(1 << 20)),
            ("2g", Some(2 << 30)),
            ("7b", Some(7)),
            ("k", None),
            ("", None),
            ("1kk", None),
            ("-1", None),
            ("+1k", None),
            ("1.5m", None),
            ("1 m", None),
            ("99999999999999999999", None),
            ("18446744073709551615g", None),
        ] {
            assert_eq!(size(text), want, "{text:?}");
        }
    }

    /// Times are bounded, have one unit, and are never nothing unless nothing means no limit.
    #[test]
    fn times_are_bounded() {
        assert_eq!(seconds("60"), Some(Duration::from_secs(60)));
        assert_eq!(seconds_or_zero("0"), Some(Duration::ZERO));
        for text in ["0", "-1", "", "60s", "9223372036854775807", "1e3"] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
        for (text, want_ms) in [("75", 75_000), ("75s", 75_000), ("10m", 600_000), ("1h", 3_600_000), ("500ms", 500), ("1d", 86_400_000)] {
            assert_eq!(duration(text), Some(Duration::from_millis(want_ms)), "{text}");
        }
        for text in ["", "s", "0", "1 s", "1w", "-5s", "1h30m", "18446744073709551615h"] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    /// One bad range spoils its list; host bits are no mistake.
    #[test]
    fn one_bad_range_spoils_the_list() {
        let nets = |text: &str| ranges(text).map(|nets| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        assert_eq!(nets("10.0.0.0/8, 192.0.2.7,2001:db8::/32").as_deref(), Some("10.0.0.0/8 192.0.2.7/32 2001:db8::/32"));
        assert_eq!(nets("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        for text in ["", "10.0.0.0/33", "10.0.0.0/8,", "10.0.0.0/8;", "all", "10.0.0", "10.0.0.0/8 10.1.0.0/16"] {
            assert_eq!(nets(text), None, "{text:?}");
        }
    }

    /// Host names are lower case, at most one star in front, and never an expression.
    #[test]
    fn hosts_are_names() {
        assert_eq!(host("A.Example").as_deref(), Some("a.example"));
        assert_eq!(host("*.example").as_deref(), Some("*.example"));
        for text in ["", "*", "a..b", "-a", "a-", "a_b", "~^a", "a*.b", "*.*.b", "a b", "a;b", "ä.example"] {
            assert_eq!(host(text), None, "{text:?}");
        }
    }
}
