//! The commands that ask a running instance: a small HTTP client towards its admin endpoint.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::boot::failure::Failure;
use crate::boot::look::print;
use crate::explain::Output;
use crate::explain::Question;

/// How long the instance may take to accept, and between two reads.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes; ten thousand Ingresses need a tenth of it.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Explains a request by what the instance serves at this moment.
///
/// # Errors
/// The instance does not answer, or the question is no request.
pub fn explain_there(admin: SocketAddr, question: &Question, output: Output) -> Result<(), Failure> {
    let mut path = format!("/api/v1/explain?method={}&url={}", escape(&question.method), escape(&question.url));
    for (name, value) in &question.fields {
        path.push_str(&format!("&header={}", escape(&format!("{name}: {value}"))));
    }
    if let Some(client) = question.client {
        path.push_str(&format!("&client={client}"));
    }
    let accept = match output {
        Output::Text => "text/plain",
        Output::Json => "application/json",
    };
    print(&get(admin, &path, accept)?);
    Ok(())
}

/// Prints how the instance is: shards, listeners, sources, upstream health, findings.
///
/// # Errors
/// The instance does not answer.
pub fn status(admin: SocketAddr, output: Output) -> Result<(), Failure> {
    let status = json(admin, "/api/v1/status")?;
    // Before the first objects there are none, and the rest is worth seeing all the same.
    let upstreams = if status["snapshot_version"] == 0 { Value::Array(Vec::new()) } else { json(admin, "/api/v1/upstreams")? };
    print(&match output {
        Output::Text => table(&status, &upstreams),
        Output::Json => {
            let mut whole = status;
            whole["upstreams"] = upstreams;
            format!("{whole:#}\n")
        }
    });
    Ok(())
}

fn json(admin: SocketAddr, path: &str) -> Result<Value, Failure> {
    let text = get(admin, path, "application/json")?;
    serde_json::from_str(&text).map_err(|_| not_corelane(admin))
}

/// The content of a page.
fn get(admin: SocketAddr, path: &str, accept: &str) -> Result<String, Failure> {
    let unreachable = |error: std::io::Error| {
        Failure::general(format!("no answer from {admin} ({error}): is `corelane run` there? Name its admin address with --admin"))
    };
    let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT).map_err(unreachable)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(unreachable)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(unreachable)?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).map_err(unreachable)?;
    let answer = String::from_utf8_lossy(&bytes);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| not_corelane(admin))?;
    let status: u16 = head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| not_corelane(admin))?;
    if status == 200 {
        return Ok(body.to_owned());
    }
    let said = serde_json::from_str::<Value>(body).ok().and_then(|value| value["error"].as_str().map(str::to_owned));
    Err(said.map_or_else(|| not_corelane(admin), Failure::general))
}

fn not_corelane(admin: SocketAddr) -> Failure {
    Failure::general(format!("what answers at {admin} is not the admin endpoint of Corelane: name it with --admin"))
}

/// Everything but letters, digits and `-._~` as `%XX`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte as char),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The status in lines for people.
fn table(status: &Value, upstreams: &Value) -> String {
    let ready = if status["ready"] == true { "ready".to_owned() } else { format!("not ready: {}", word(&status["reason"])) };
    let mut text = format!(
        "Corelane {}, {ready}, up {} s, snapshot {}\n",
        word(&status["version"]),
        word(&status["uptime_s"]),
        word(&status["snapshot_version"])
    );
    let rows = |value: &Value, cells: &dyn Fn(&Value) -> Vec<String>| -> Vec<Vec<String>> {
        value.as_array().into_iter().flatten().map(cells).collect()
    };
    let shards = rows(&status["shards"], &|shard| {
        vec![
            word(&shard["shard"]),
            word(&shard["snapshot_version"]),
            if shard["current"] == true { "current" } else { "behind" }.to_owned(),
        ]
    });
    section(&mut text, &["SHARD", "VERSION", "STATE"], shards);
    let listeners = rows(&status["listeners"], &|listener| vec![word(&listener["name"]), word(&listener["address"])]);
    section(&mut text, &["LISTENER", "ADDRESS"], listeners);
    let sources = rows(&status["sources"], &|source| {
        let trouble = source["trouble"].as_str().unwrap_or("current");
        vec![word(&source["name"]), word(&source["objects"]), trouble.to_owned()]
    });
    section(&mut text, &["SOURCE", "OBJECTS", "STATE"], sources);
    let upstreams = rows(upstreams, &|upstream| {
        let endpoints = upstream["endpoints"].as_array().map_or(0, Vec::len);
        let refusal = upstream["refusal"].as_str().unwrap_or_default();
        vec![word(&upstream["name"]), format!("{} of {endpoints}", word(&upstream["healthy"])), refusal.to_owned()]
    });
    section(&mut text, &["UPSTREAM", "HEALTHY", "REFUSAL"], upstreams);
    let findings = rows(&status["findings"], &|finding| {
        let object = &finding["object"];
        let namespace = object["namespace"].as_str().filter(|namespace| !namespace.is_empty());
        let name = namespace.map_or_else(|| word(&object["name"]), |namespace| format!("{namespace}/{}", word(&object["name"])));
        let says = format!("{} {}", word(&finding["message"]), word(&finding["cure"]));
        vec![word(&finding["severity"]), format!("{} {name}", word(&finding["kind"])), says]
    });
    section(&mut text, &["FINDING", "OBJECT", "WHAT AND WHAT TO DO"], findings);
    text
}

/// A value without quotes.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Columns under a header; nothing where there are no rows.
fn section(text: &mut String, header: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    let width = |column: usize| rows.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    text.push('\n');
    for row in [&header].into_iter().chain(&rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What has no rows is left out, columns line up, and a finding keeps its cure.
    #[test]
    fn the_table_lines_up() {
        let status = serde_json::json!({
            "version": "1", "ready": false, "reason": "draining", "uptime_s": 3, "snapshot_version": 7,
            "shards": [{"shard": 0, "snapshot_version": 7, "current": true}, {"shard": 10, "snapshot_version": 6, "current": false}],
            "listeners": [], "sources": [{"name": "manifests d", "objects": 2, "trouble": null}],
            "findings": [{"severity": "error", "kind": "Ingress", "object": {"namespace": "a", "name": "b"}, "message": "No.", "cure": "Do."}],
        });
        let upstreams = serde_json::json!([{"name": "a/b:80", "healthy": 1, "refusal": null, "endpoints": [{}, {}]}]);
        let want = "Corelane 1, not ready: draining, up 3 s, snapshot 7\n\n\
            SHARD  VERSION  STATE\n0      7        current\n10     6        behind\n\n\
            SOURCE       OBJECTS  STATE\nmanifests d  2        current\n\n\
            UPSTREAM  HEALTHY  REFUSAL\na/b:80    1 of 2\n\n\
            FINDING  OBJECT       WHAT AND WHAT TO DO\nerror    Ingress a/b  No. Do.\n";
        assert_eq!(table(&status, &upstreams), want);
    }

    /// Nothing of a value can end its parameter.
    #[test]
    fn values_stay_in_their_parameter() {
        assert_eq!(escape("http://h/a?b=c&d +#%\u{e9}"), "http%3A%2F%2Fh%2Fa%3Fb%3Dc%26d%20%2B%23%25%C3%A9");
    }
}
