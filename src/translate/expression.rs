//! Expressions in paths, compiled once as long as some rule has them: nothing else in a translation takes as long.

use std::collections::HashMap;

use regex::bytes::Regex;
use regex::bytes::RegexBuilder;

use crate::route::PathRegex;
use crate::translate::about::About;
use crate::translate::about::quoted;

/// Every expression of the last translation, by its text, with what came of it.
#[derive(Debug, Default)]
pub(crate) struct Expressions {
    paths: Compiled<PathRegex>,
    rewrites: Compiled<Regex>,
}

#[derive(Debug)]
struct Compiled<E> {
    before: HashMap<String, Result<E, String>>,
    now: HashMap<String, Result<E, String>>,
}

impl<E> Default for Compiled<E> {
    fn default() -> Self {
        Self { before: HashMap::new(), now: HashMap::new() }
    }
}

impl<E: Clone> Compiled<E> {
    fn get(&mut self, text: &str, compile: impl FnOnce(&str) -> Result<E, String>) -> Result<E, String> {
        if let Some(known) = self.now.get(text) {
            return known.clone();
        }
        let (text, compiled) = self.before.remove_entry(text).unwrap_or_else(|| (text.to_owned(), compile(text)));
        self.now.insert(text, compiled.clone());
        compiled
    }

    /// What no rule has asked for since the last turn is forgotten.
    fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}

impl Expressions {
    /// A new translation begins.
    pub(crate) fn turn(&mut self) {
        self.paths.turn();
        self.rewrites.turn();
    }

    /// What a path must begin with.
    ///
    /// # Errors
    /// Why `text` is no expression, or too large a one.
    pub(crate) fn path(&mut self, text: &str) -> Result<PathRegex, String> {
        self.paths.get(text, PathRegex::new)
    }

    /// What a rewrite replaces where that is not what its route matches: in any case, anywhere in the path, bounded as a path is.
    ///
    /// # Errors
    /// As for a path.
    pub(crate) fn rewrite(&mut self, text: &str) -> Result<Regex, String> {
        self.rewrites.get(text, |text| {
            let mut builder = RegexBuilder::new(text);
            builder.case_insensitive(true).unicode(false).size_limit(1 << 20).nest_limit(50).build().map_err(|error| error.to_string())
        })
    }
}

/// Says that a path that must be an expression is none.
pub(crate) fn refuse(path: &str, why: &str, field: &str, about: &mut About<'_>) {
    // The last line of the explanation is the one that names the fault.
    let why = why.lines().last().unwrap_or_default().trim();
    let message = format!("the path {} is no expression: {why}", quoted(path));
    let cure = "Correct the expression, or remove use-regex and rewrite-target from every Ingress of the host; the path is not served.";
    about.error(&format!("{field}.path"), "InvalidExpression", message, cure);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An expression is compiled once while it is in use, a bad one too, and again after nobody has asked for it.
    #[test]
    fn expressions_are_compiled_once_while_in_use() {
        let mut compiled = Compiled::default();
        let mut times = 0;
        for (text, want) in [("a", Ok(1)), ("a", Ok(1)), ("", Err("empty".to_owned())), ("", Err("empty".to_owned()))] {
            let got = compiled.get(text, |text| {
                times += 1;
                if text.is_empty() { Err("empty".to_owned()) } else { Ok(1) }
            });
            assert_eq!(got, want);
        }
        assert_eq!(times, 2);
        compiled.turn();
        assert_eq!(compiled.get("a", |_| panic!("it is known")), Ok(1));
        compiled.turn();
        compiled.turn();
        assert_eq!(compiled.get("a", |_| Ok(2)), Ok(2));
    }

    /// Bounded in size and in depth, whoever writes them.
    #[test]
    fn expressions_are_bounded() {
        let mut expressions = Expressions::default();
        let deep = "(".repeat(60) + "a" + &")".repeat(60);
        for (text, want) in [("/a(/|$)(.*)", true), ("/a(b", false), ("(a{1000}){1000}", false), (deep.as_str(), false)] {
            assert_eq!(expressions.rewrite(text).is_ok(), want, "{text}");
            assert_eq!(expressions.path(text).is_ok(), want, "{text}");
        }
    }
}
