//! The query of `/api/v1/explain`: names and values, escaped as forms are.

use crate::explain::Question;

/// The question that a query asks.
///
/// # Errors
/// What is missing or malformed: one sentence.
pub(super) fn question(query: &str) -> Result<Question, String> {
    let mut question = Question { method: "GET".to_owned(), url: String::new(), fields: Vec::new(), client: None };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value).ok_or_else(|| format!("the value of `{name}` is not escaped as it should be"))?;
        match name {
            "method" if value.is_empty() => {}
            "method" => question.method = value,
            "url" => question.url = value,
            "header" => {
                let (name, value) = value.split_once(':').ok_or_else(|| format!("`{value}` is no field: write header=Name:%20value"))?;
                question.fields.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            "client" if value.is_empty() => {}
            "client" => question.client = Some(value.parse().map_err(|_| format!("`{value}` is no address: write client=192.0.2.1"))?),
            _ => return Err(format!("there is no parameter `{name}`: method, url, header and client are known")),
        }
    }
    if question.url.is_empty() {
        return Err("url is missing: write url=http://host/path".to_owned());
    }
    Ok(question)
}

/// `%41` is A and `+` is a space; `None` for a broken escape or what is no UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || (bytes.next()? as char).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query asks what its parameters say.
    #[test]
    fn a_query_asks_what_it_says() {
        let question = question("method=POST&url=http%3A%2F%2Fh%2Fa%3Fb%3Dc&header=X-A:+1&header=X-B%3A%20%C3%A9&client=192.0.2.7");
        let question = question.expect("a question");
        assert_eq!((&*question.method, &*question.url), ("POST", "http://h/a?b=c"));
        assert_eq!(question.fields, [("X-A".to_owned(), "1".to_owned()), ("X-B".to_owned(), "\u{e9}".to_owned())]);
        assert_eq!(question.client, Some([192, 0, 2, 7].into()));
    }

    /// What cannot be asked says what is wrong with it.
    #[test]
    fn what_cannot_be_asked_is_refused() {
        for (query, told) in [
            ("", "url is missing"),
            ("method=GET", "url is missing"),
            ("url=%", "not escaped"),
            ("url=%4", "not escaped"),
            ("url=%zz", "not escaped"),
            ("url=%ff", "not escaped"),
            ("url=http://h/&header=X", "no field"),
            ("url=http://h/&client=me", "no address"),
            ("url=http://h/&colour=red", "no parameter `colour`"),
        ] {
            let refusal = question(query).expect_err("no question");
            assert!(refusal.contains(told), "{query}: {refusal}");
        }
    }
}
