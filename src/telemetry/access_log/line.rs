//! From a record to a line: plain ASCII, one line whatever the client sent, and every byte of it can be read back.

use std::io::Write as _;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::SystemTime;

use crate::telemetry::access_log::record::AccessRecord;
use crate::telemetry::access_log::record::Format;

/// Writes lines in one format; remembers the day, which is the part of a time that is dear to work out.
#[derive(Debug)]
pub(crate) struct LineWriter {
    format: Format,
    day: Day,
}

impl LineWriter {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, day: Day::new(0) }
    }

    /// Appends the line of `record`, its end included.
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, record: &AccessRecord<'_>) {
        // A clock before 1970 is a broken clock; the line is still worth having.
        let since_epoch = record.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let day = since_epoch.as_secs() / DAY_S;
        if day != self.day.number {
            self.day = Day::new(day);
        }
        let second_of_day = (since_epoch.as_secs() % DAY_S) as u32;
        match self.format {
            Format::Json => {
                out.extend_from_slice(b"{\"ts\":\"");
                out.extend_from_slice(self.day.iso.as_bytes());
                out.push(b'T');
                push_time(out, second_of_day);
                out.push(b'.');
                push_digits(out, since_epoch.subsec_micros(), 6);
                out.extend_from_slice(b"Z\"");
                push_json(out, record);
                out.extend_from_slice(b"}\n");
            }
            Format::Text => {
                push_address(out, record.client);
                out.extend_from_slice(b" - - [");
                out.extend_from_slice(self.day.clf.as_bytes());
                out.push(b':');
                push_time(out, second_of_day);
                out.extend_from_slice(b" +0000]");
                push_text(out, record);
                out.push(b'\n');
            }
        }
    }
}

const DAY_S: u64 = 86_400;

/// A day in both formats, UTC.
#[derive(Debug)]
struct Day {
    /// Days since 1970.
    number: u64,
    /// `2026-01-31` (RFC 3339).
    iso: String,
    /// `31/Jan/2026`, as in the Common Log Format.
    clf: String,
}

impl Day {
    fn new(number: u64) -> Self {
        // The calendar ends with the year 9999, and so does what a line can say.
        let days = i32::try_from(number).unwrap_or(i32::MAX).min(2_932_896);
        let date = jiff::civil::date(1970, 1, 1).saturating_add(jiff::Span::new().days(days));
        Self { number, iso: date.to_string(), clf: date.strftime("%d/%b/%Y").to_string() }
    }
}

/// What stands before the value of a field.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

fn push_json(out: &mut Vec<u8>, record: &AccessRecord<'_>) {
    push_string(out, key!("request_id"), Some(record.request_id));
    out.extend_from_slice(key!("client").as_bytes());
    out.push(b'"');
    push_address(out, record.client);
    out.push(b'"');
    push_integer(out, key!("client_port"), Some(record.client_port));
    push_string(out, key!("listener"), Some(record.listener.as_bytes()));
    push_string(out, key!("proto"), Some(record.proto.as_bytes()));
    push_string(out, key!("tls_version"), record.tls_version.map(str::as_bytes));
    push_string(out, key!("tls_cipher"), record.tls_cipher.map(str::as_bytes));
    push_string(out, key!("sni"), record.sni.map(str::as_bytes));
    push_string(out, key!("method"), Some(record.method));
    push_string(out, key!("host"), Some(record.host));
    push_string(out, key!("path"), Some(record.path));
    push_integer(out, key!("status"), Some(record.status));
    push_integer(out, key!("bytes_in"), Some(record.bytes_in));
    push_integer(out, key!("bytes_out"), Some(record.bytes_out));
    push_integer(out, key!("duration_us"), Some(record.duration_us));
    out.extend_from_slice(key!("upstream").as_bytes());
    match record.upstream {
        Some(upstream) => {
            out.push(b'"');
            push_endpoint(out, upstream);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
    push_integer(out, key!("upstream_status"), record.upstream_status);
    push_integer(out, key!("upstream_connect_us"), record.upstream_connect_us);
    push_integer(out, key!("upstream_first_byte_us"), record.upstream_first_byte_us);
    push_integer(out, key!("attempts"), Some(record.attempts));
    push_string(out, key!("namespace"), Some(record.namespace.as_bytes()));
    push_string(out, key!("ingress"), Some(record.ingress.as_bytes()));
    push_string(out, key!("service"), Some(record.service.as_bytes()));
    push_string(out, key!("user_agent"), record.user_agent);
    push_string(out, key!("referer"), record.referer);
    out.extend_from_slice(key!("flags").as_bytes());
    let mut separator = b'[';
    for flag in record.flags {
        out.extend_from_slice(&[separator, b'"']);
        push_json_escaped(out, flag.as_bytes());
        out.push(b'"');
        separator = b',';
    }
    out.extend_from_slice(if record.flags.is_empty() { b"[]" } else { b"]" });
}

fn push_string(out: &mut Vec<u8>, key: &'static str, value: Option<&[u8]>) {
    out.extend_from_slice(key.as_bytes());
    match value {
        Some(bytes) => {
            out.push(b'"');
            push_json_escaped(out, bytes);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

fn push_integer(out: &mut Vec<u8>, key: &'static str, value: Option<impl Into<u64>>) {
    out.extend_from_slice(key.as_bytes());
    match value {
        Some(number) => push_number(out, number.into()),
        None => out.extend_from_slice(b"null"),
    }
}

/// The rest of a text line: the combined format, then what Corelane knows beyond it.
fn push_text(out: &mut Vec<u8>, record: &AccessRecord<'_>) {
    out.extend_from_slice(b" \"");
    push_text_escaped(out, record.method);
    out.push(b' ');
    push_text_escaped(out, record.path);
    out.push(b' ');
    push_text_escaped(out, record.proto.as_bytes());
    out.extend_from_slice(b"\" ");
    push_number(out, record.status.into());
    out.push(b' ');
    push_number(out, record.bytes_out);
    for value in [record.referer.unwrap_or_default(), record.user_agent.unwrap_or_default(), record.host, record.request_id] {
        out.extend_from_slice(b" \"");
        push_text_escaped(out, if value.is_empty() { b"-" } else { value });
        out.push(b'"');
    }
    out.push(b' ');
    push_number(out, record.bytes_in);
    out.push(b' ');
    push_number(out, record.duration_us / 1_000_000);
    out.push(b'.');
    push_digits(out, (record.duration_us % 1_000_000) as u32, 6);
    out.push(b' ');
    for (index, name) in [record.namespace, record.ingress, record.service].into_iter().enumerate() {
        if index > 0 {
            out.push(b'/');
        }
        push_text_escaped(out, if name.is_empty() { b"-" } else { name.as_bytes() });
    }
    out.push(b' ');
    match record.upstream {
        Some(upstream) => push_endpoint(out, upstream),
        None => out.push(b'-'),
    }
    out.push(b' ');
    match record.upstream_status {
        Some(status) => push_number(out, status.into()),
        None => out.push(b'-'),
    }
    out.push(b' ');
    push_number(out, record.attempts.into());
    out.push(b' ');
    for (index, flag) in record.flags.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_text_escaped(out, flag.as_bytes());
    }
    if record.flags.is_empty() {
        out.push(b'-');
    }
}

/// Bytes that cannot stand for themselves, in either format: controls, quote, backslash, and all that is not ASCII.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        special[byte] = byte < 0x20 || byte >= 0x7f || byte == b'"' as usize || byte == b'\\' as usize;
        byte += 1;
    }
    special
};

/// As the inside of a JSON string in which every character stands for one byte: `\u00e9` is the byte E9, never a letter.
fn push_json_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    push_escaped(out, bytes, |out, byte| match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        _ => {
            out.extend_from_slice(b"\\u00");
            push_hex(out, byte, b"0123456789abcdef");
        }
    });
}

/// As nginx does it by default: `\x22`.
fn push_text_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    push_escaped(out, bytes, |out, byte| {
        out.extend_from_slice(b"\\x");
        push_hex(out, byte, b"0123456789ABCDEF");
    });
}

fn push_escaped(out: &mut Vec<u8>, bytes: &[u8], escape: impl Fn(&mut Vec<u8>, u8)) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| SPECIAL[usize::from(*byte)]) {
        out.extend_from_slice(&rest[..at]);
        escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn push_hex(out: &mut Vec<u8>, byte: u8, digits: &[u8; 16]) {
    out.extend_from_slice(&[digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
}

/// `02:07:08`.
fn push_time(out: &mut Vec<u8>, second_of_day: u32) {
    push_digits(out, second_of_day / 3600, 2);
    out.push(b':');
    push_digits(out, second_of_day / 60 % 60, 2);
    out.push(b':');
    push_digits(out, second_of_day % 60, 2);
}

/// The last `count` digits of a number, with leading zeros.
fn push_digits(out: &mut Vec<u8>, mut number: u32, count: usize) {
    let start = out.len();
    out.resize(start + count, b'0');
    for place in out[start..].iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    // The largest number has twenty digits.
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                push_number(out, octet.into());
            }
        }
        IpAddr::V6(address) => write!(out, "{address}").expect("a Vec takes everything"),
    }
}

fn push_endpoint(out: &mut Vec<u8>, endpoint: SocketAddr) {
    match endpoint {
        SocketAddr::V4(endpoint) => {
            push_address(out, IpAddr::V4(*endpoint.ip()));
            out.push(b':');
            push_number(out, endpoint.port().into());
        }
        SocketAddr::V6(endpoint) => write!(out, "{endpoint}").expect("a Vec takes everything"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record() -> AccessRecord<'static> {
        AccessRecord {
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_709_208_061_000_789),
            request_id: b"0123456789abcdef",
            client: [192, 0, 2, 10].into(),
            client_port: 54321,
            listener: "https/0.0.0.0:443",
            proto: "HTTP/1.1",
            tls_version: Some("TLSv1.3"),
            tls_cipher: Some("TLS_AES_128_GCM_SHA256"),
            sni: Some("shop.example.com"),
            method: b"GET",
            host: b"shop.example.com",
            path: b"/cart?item=1",
            status: 200,
            bytes_in: 0,
            bytes_out: u64::MAX,
            duration_us: 1_234_567,
            upstream: Some(([10, 0, 0, 7], 30080).into()),
            upstream_status: Some(200),
            upstream_connect_us: None,
            upstream_first_byte_us: Some(900),
            attempts: 1,
            namespace: "shop",
            ingress: "web",
            service: "cart",
            user_agent: Some(b"curl/8.5.0"),
            referer: None,
            flags: &[],
        }
    }

    fn line(format: Format, record: &AccessRecord<'_>) -> String {
        let mut out = Vec::new();
        LineWriter::new(format).push(&mut out, record);
        String::from_utf8(out).expect("plain ASCII")
    }

    /// A JSON line is one object with every field in the order of the contract; what does not apply is null.
    #[test]
    fn a_json_line_has_every_field_in_order() {
        let want = concat!(
            r#"{"ts":"2024-02-29T12:01:01.000789Z","request_id":"0123456789abcdef","client":"192.0.2.10","client_port":54321,"#,
            r#""listener":"https/0.0.0.0:443","proto":"HTTP/1.1","tls_version":"TLSv1.3","tls_cipher":"TLS_AES_128_GCM_SHA256","#,
            r#""sni":"shop.example.com","method":"GET","host":"shop.example.com","path":"/cart?item=1","status":200,"bytes_in":0,"#,
            r#""bytes_out":18446744073709551615,"duration_us":1234567,"upstream":"10.0.0.7:30080","upstream_status":200,"#,
            r#""upstream_connect_us":null,"upstream_first_byte_us":900,"attempts":1,"namespace":"shop","ingress":"web","#,
            r#""service":"cart","user_agent":"curl/8.5.0","referer":null,"flags":[]}"#,
            "\n"
        );
        let got = line(Format::Json, &record());
        assert_eq!(got, want);
        let value: serde_json::Value = serde_json::from_str(&got).expect("JSON");
        assert_eq!(value.as_object().expect("an object").len(), 27);
    }

    /// A request that met nobody still makes a whole line.
    #[test]
    fn a_line_without_route_and_upstream_is_whole() {
        let record = AccessRecord {
            client: "2001:db8::1".parse().expect("an address"),
            upstream: None,
            upstream_status: None,
            tls_version: None,
            status: 0,
            namespace: "",
            ingress: "",
            service: "",
            user_agent: None,
            attempts: 0,
            flags: &["no_route", "client_closed"],
            ..record()
        };
        let value: serde_json::Value = serde_json::from_str(&line(Format::Json, &record)).expect("JSON");
        assert_eq!(value["client"], "2001:db8::1");
        assert_eq!(value["upstream"], serde_json::Value::Null);
        assert_eq!(value["namespace"], "");
        assert_eq!(value["flags"], serde_json::json!(["no_route", "client_closed"]));
        let want = "2001:db8::1 - - [29/Feb/2024:12:01:01 +0000] \"GET /cart?item=1 HTTP/1.1\" 0 18446744073709551615 \"-\" \"-\" \
                    \"shop.example.com\" \"0123456789abcdef\" 0 1.234567 -/-/- - - 0 no_route,client_closed\n";
        assert_eq!(line(Format::Text, &record), want);
    }

    /// A text line begins with the combined format.
    #[test]
    fn a_text_line_begins_with_the_combined_format() {
        let want = "192.0.2.10 - - [29/Feb/2024:12:01:01 +0000] \"GET /cart?item=1 HTTP/1.1\" 200 18446744073709551615 \"-\" \"curl/8.5.0\" \
                    \"shop.example.com\" \"0123456789abcdef\" 0 1.234567 shop/web/cart 10.0.0.7:30080 200 1 -\n";
        assert_eq!(line(Format::Text, &record()), want);
    }

    /// Whatever bytes come from outside, in whatever field: the line stays one line of ASCII, and they can be read back.
    #[test]
    fn every_byte_can_be_read_back() {
        let all: Vec<u8> = (0..=255).collect();
        let hostile = "\u{1b}[31mred\r\n{\"ts\":\"forged\"}\u{2028}\u{7f}";
        for bytes in [&all[..], hostile.as_bytes(), b"\"", b"\\", b"\\u0041", b"", b"\xc3\xa9", b"\xff\xfe"] {
            let record = AccessRecord {
                request_id: bytes,
                method: bytes,
                host: bytes,
                path: bytes,
                user_agent: Some(bytes),
                referer: Some(bytes),
                sni: Some(hostile),
                ..record()
            };
            for format in [Format::Json, Format::Text] {
                let line = line(format, &record);
                let (content, end) = line.split_at(line.len() - 1);
                assert_eq!(end, "\n");
                assert!(content.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{content:?}");
            }
            let value: serde_json::Value = serde_json::from_str(&line(Format::Json, &record)).expect("JSON");
            for field in ["request_id", "method", "host", "path", "user_agent", "referer"] {
                let text = value[field].as_str().expect("a string");
                let read: Vec<u8> = text.chars().map(|character| u8::try_from(u32::from(character)).expect("one byte")).collect();
                assert_eq!(read, bytes, "{field}");
            }
        }
    }

    /// In text a quote cannot end its field, and what was escaped is told apart from what looks like it.
    #[test]
    fn text_is_escaped_as_nginx_does() {
        for (bytes, want) in [
            (&b"plain text"[..], "plain text"),
            (b"a\"b\\c", "a\\x22b\\x5Cc"),
            (b"\x00\n\r\t\x1b\x7f\x80\xff", "\\x00\\x0A\\x0D\\x09\\x1B\\x7F\\x80\\xFF"),
            (b"\\x0A", "\\x5Cx0A"),
        ] {
            let mut out = Vec::new();
            push_text_escaped(&mut out, bytes);
            assert_eq!(String::from_utf8(out).expect("ASCII"), want);
        }
    }

    /// Times are right on both sides of a day, of a leap day, and at both ends of the calendar.
    #[test]
    fn times_are_of_the_calendar() {
        let mut writer = LineWriter::new(Format::Json);
        for (micros, want) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (86_399_999_999, "1970-01-01T23:59:59.999999Z"),
            (86_400_000_000, "1970-01-02T00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (951_868_800_000_000, "2000-03-01T00:00:00.000000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (253_402_300_799_000_000, "9999-12-31T23:59:59.000000Z"),
            (253_402_300_800_000_000, "9999-12-31T00:00:00.000000Z"),
        ] {
            let mut out = Vec::new();
            writer.push(&mut out, &AccessRecord { at: SystemTime::UNIX_EPOCH + Duration::from_micros(micros), ..record() });
            assert!(out.starts_with(format!("{{\"ts\":\"{want}\"").as_bytes()), "{want}: {}", String::from_utf8_lossy(&out));
        }
        let mut out = Vec::new();
        writer.push(&mut out, &AccessRecord { at: SystemTime::UNIX_EPOCH - Duration::from_secs(1), ..record() });
        assert!(out.starts_with(b"{\"ts\":\"1970-01-01T00:00:00"));
    }

    /// Numbers are written as the standard library writes them.
    #[test]
    fn numbers_are_decimal() {
        for number in [0, 9, 10, 99, 100, 1_000_000, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(String::from_utf8(out).expect("digits"), number.to_string());
        }
        for endpoint in ["127.0.0.1:80", "255.255.255.255:65535", "[::1]:8080", "[2001:db8::1]:1"] {
            let mut out = Vec::new();
            push_endpoint(&mut out, endpoint.parse().expect("an address"));
            assert_eq!(String::from_utf8(out).expect("text"), endpoint);
        }
    }
}
