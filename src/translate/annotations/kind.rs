//! The forms that a value of an annotation can have.

use crate::snapshot::rule::Retry;
use crate::translate::value;

/// Longest value that is one, in bytes; an API server holds 256 KiB of annotations on one object.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// What a value must look like; the character sets are ingress-nginx's own (annotations.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    OnOff,
    /// A whole number, perhaps negative.
    Integer,
    /// A number of bytes, with `k`, `m` or `g`.
    Size,
    /// A comma list of addresses and ranges.
    Ranges,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, in any case.
    WordAnyCase(&'static [&'static str]),
    /// Conditions for another try.
    Conditions,
    /// Statuses from 400 to 599 in a comma list.
    Statuses,
    /// Letters, digits and `-._~/:`: names, references, paths.
    Basic,
    /// The same and spaces.
    BasicAndSpaces,
    /// The same, spaces and commas.
    Extended,
    Url,
    /// A URL with nginx variables.
    UrlWithVariables,
    /// A path with references to captures.
    RewriteTarget,
    /// The name of a Service.
    Service,
    /// Host names, perhaps with characters of expressions.
    ServerNames,
    /// An expression out of the characters that ingress-nginx admits.
    Expression,
    /// Field names in a comma list.
    FieldNames,
    /// Letters, digits, `-_` and nginx variables.
    Variables,
    /// `CN=` and an expression.
    CommonName,
    /// Cipher names as OpenSSL lists them.
    Ciphers,
    /// Anything without a line end.
    Line,
    /// Text of nginx configuration.
    Snippet,
}

impl Kind {
    /// Whether `text` has this form.
    pub fn accepts(self, text: &str) -> bool {
        if self == Self::Snippet {
            return true;
        }
        if text.len() > VALUE_BYTES_MAX || text.contains(['\r', '\n']) {
            return false;
        }
        let only = |more: &[u8]| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte));
        match self {
            Self::Bool => value::boolean(text).is_some(),
            Self::OnOff => value::on_off(text).is_some(),
            Self::Integer => value::integer(text).is_some(),
            Self::Size => value::size(text).is_some(),
            Self::Ranges => value::ranges(text).is_some(),
            Self::Word(words) => words.contains(&text),
            Self::WordAnyCase(words) => words.iter().any(|word| word.eq_ignore_ascii_case(text)),
            Self::Conditions => value::retry_conditions(text, Retry::default()).is_some(),
            Self::Statuses => value::list(text).all(|item| item.parse().is_ok_and(|status: u16| (400..600).contains(&status))),
            Self::Basic => value::is_basic(text),
            Self::BasicAndSpaces => only(b"-._~/: "),
            Self::Extended => only(b"-._~/:, "),
            Self::Url => value::is_url(text),
            Self::UrlWithVariables => value::is_url_with_variables(text),
            Self::RewriteTarget => value::is_rewrite_target(text),
            Self::Service => value::is_object_name(text) && text.len() <= 63 && !text.contains('.'),
            Self::ServerNames => only(b"-._~/:^$[](){}*+?|&=\\, "),
            Self::Expression => only(b"-._~/:^$[](){}*+?|&=\\"),
            Self::FieldNames => only(b"-_, "),
            Self::Variables => only(b"-_${}"),
            Self::CommonName => text.strip_prefix("CN=").is_some_and(|rest| value::expression(rest).is_some()),
            Self::Ciphers => only(b"!:+-_@= "),
            Self::Line | Self::Snippet => true,
        }
    }

    /// What a value is, in words that follow "is not" and "Write".
    pub fn wants(self) -> String {
        let words = |words: &[&str]| words.join(" or ");
        let fixed = match self {
            Self::Bool => "\"true\" or \"false\"",
            Self::OnOff => "on or off",
            Self::Integer => "a whole number without a unit",
            Self::Size => "a size such as 8m",
            Self::Ranges => "a comma list of addresses and ranges such as 10.0.0.0/8",
            Self::Word(list) | Self::WordAnyCase(list) => return words(list),
            Self::Conditions => "conditions such as error timeout http_502",
            Self::Statuses => "a comma list of statuses from 400 to 599",
            Self::Basic => "a name out of letters, digits and -._~/:",
            Self::BasicAndSpaces => "text out of letters, digits, spaces and -._~/:",
            Self::Extended => "text out of letters, digits, spaces and -._~/:,",
            Self::Url => "a URL out of letters, digits and -._~/:,?&=",
            Self::UrlWithVariables => "a URL out of letters, digits, variables and -._~/:,?&=",
            Self::RewriteTarget => "a path out of letters, digits, captures such as $1 and -._~/:",
            Self::Service => "the name of a Service in the same namespace",
            Self::ServerNames => "a comma list of host names",
            Self::Expression => "an expression out of letters, digits and -._~/:^$[](){}*+?|&=\\",
            Self::FieldNames => "a comma list of field names",
            Self::Variables => "text out of letters, digits, variables and -_",
            Self::CommonName => "CN= and an expression",
            Self::Ciphers => "a list of ciphers as OpenSSL has it",
            Self::Line => "one line of text",
            Self::Snippet => "nginx configuration",
        };
        fixed.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that nginx would read as more than a value passes as one.
    #[test]
    fn what_nginx_would_read_as_configuration_is_no_value() {
        for hostile in ["a\nb", "a;b", "a{b}\n", "\"", "'", "`id`", "#", "a\r\n", "\0", "%0a"] {
            for kind in [
                Kind::Bool,
                Kind::OnOff,
                Kind::Integer,
                Kind::Size,
                Kind::Ranges,
                Kind::Conditions,
                Kind::Statuses,
                Kind::Basic,
                Kind::Url,
                Kind::UrlWithVariables,
                Kind::RewriteTarget,
                Kind::Service,
                Kind::ServerNames,
                Kind::Expression,
                Kind::FieldNames,
                Kind::Ciphers,
            ] {
                assert!(!kind.accepts(hostile), "{kind:?} {hostile:?}");
            }
        }
    }

    /// Ordinary values pass.
    #[test]
    fn ordinary_values_pass() {
        for (kind, text) in [
            (Kind::RewriteTarget, "/a/$1/b"),
            (Kind::RewriteTarget, "/"),
            (Kind::Url, "https://example.com/a?b=c&d=e"),
            (Kind::UrlWithVariables, "https://$host/oauth2/start?rd=$escaped_request_uri"),
            (Kind::ServerNames, "a.example, ~^www\\d+\\.example$"),
            (Kind::CommonName, "CN=^client-[0-9]+$"),
            (Kind::Conditions, "error timeout http_429 non_idempotent"),
            (Kind::Statuses, "404,503"),
            (Kind::Service, "fallback"),
            (Kind::WordAnyCase(&["HTTP", "HTTPS"]), "https"),
            (Kind::Ciphers, "ECDHE-RSA-AES128-GCM-SHA256:!aNULL"),
        ] {
            assert!(kind.accepts(text), "{kind:?} {text}");
        }
    }
}
