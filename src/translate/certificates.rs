//! Which certificate each host shows.
//!
//! What an Ingress says about TLS counts for its own hosts: the `tls` entry that names the host decides, else the first whose certificate
//! is good for it, else the default certificate. Of several Ingresses of one host only those in the namespace of the oldest are asked,
//! so that nobody can show his certificate for a host of somebody else.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;

use crate::route::HostPattern;
use crate::snapshot::certificate::Certificates;
use crate::snapshot::certificate::Pair;
use crate::snapshot::certificate::TicketKeys;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::translate::about::About;
use crate::translate::claims::Claims;
use crate::translate::claims::HostClaims;
use crate::translate::host;
use crate::translate::ingress::Reading;
use crate::translate::ingress::TlsEntry;
use crate::translate::resources::Resources;
use crate::translate::secret;
use crate::translate::secret::BadSecret;

/// Every Secret with a certificate as it was last read.
pub(crate) type KnownPairs = HashMap<ObjectKey, KnownPair>;

/// A Secret, and the last good pair in it.
#[derive(Clone, Debug)]
pub(crate) struct KnownPair {
    secret: Option<Arc<Secret>>,
    good: Option<Good>,
    trouble: Option<Trouble>,
}

#[derive(Clone, Debug)]
struct Good {
    pair: Arc<Pair>,
    names: Arc<[String]>,
}

/// Why the newest version of a Secret is not served.
#[derive(Clone, Debug)]
enum Trouble {
    Missing,
    Bad(BadSecret),
}

impl KnownPair {
    /// The Secret as it is now; `before` is what was known of it. An unchanged one is not parsed again.
    fn read(key: &ObjectKey, secret: Option<&Arc<Secret>>, before: Option<Self>) -> Self {
        let Some(secret) = secret else {
            return Self { secret: None, good: before.and_then(|before| before.good), trouble: Some(Trouble::Missing) };
        };
        let is_same = |old: &Arc<Secret>| Arc::ptr_eq(old, secret) || (old.data == secret.data && old.type_ == secret.type_);
        match before {
            Some(before) if before.secret.as_ref().is_some_and(is_same) => before,
            before => match secret::pair(&key.to_string(), secret) {
                Ok(pair) => {
                    let names = secret::names(&pair).into();
                    Self { secret: Some(secret.clone()), good: Some(Good { pair: Arc::new(pair), names }), trouble: None }
                }
                Err(bad) => {
                    let good = before.and_then(|before| before.good);
                    Self { secret: Some(secret.clone()), good, trouble: Some(Trouble::Bad(bad)) }
                }
            },
        }
    }
}

/// What was chosen.
pub(crate) struct Choice {
    pub(crate) certificates: Certificates,
    /// Hosts for which some certificate is configured, the default one included.
    pub(crate) tls_hosts: BTreeSet<HostPattern>,
}

/// What a certificate is chosen with.
struct Chooser<'c> {
    pairs: &'c KnownPairs,
    default: Arc<Pair>,
    findings: &'c mut Vec<Finding>,
}

/// Chooses for every host; `known` are the Secrets as they were, and become what they are.
pub(crate) fn choose(
    readings: &[Reading],
    claims: &Claims<'_>,
    resources: &Resources,
    default: (Option<&ObjectKey>, &Arc<Pair>),
    tickets: &Arc<TicketKeys>,
    known: &mut KnownPairs,
    findings: &mut Vec<Finding>,
) -> Choice {
    let served = || readings.iter().filter(|reading| reading.annotations.canary.is_none());
    *known = read_pairs(served(), default.0, resources, std::mem::take(known));
    for reading in served() {
        say_what_is_wrong(reading, known, findings);
    }
    let (default_key, fallback) = default;
    let default = default_key.and_then(|key| default_pair(key, &known[key], findings)).unwrap_or_else(|| fallback.clone());
    let mut certificates =
        Certificates { exact: HashMap::new(), wildcard: HashMap::new(), default: default.clone(), tickets: tickets.clone() };
    let mut tls_hosts = BTreeSet::new();
    let mut chooser = Chooser { pairs: known, default, findings };
    for (pattern, host) in claims.hosts.iter().filter(|(pattern, _)| **pattern != HostPattern::Any) {
        if let Some(pair) = chooser.of_host(pattern, host) {
            show(&mut certificates, pattern, pair);
            tls_hosts.insert(pattern.clone());
        }
    }
    for (alias, pattern) in &claims.aliases {
        if let Some(pair) = shown(&certificates, pattern).cloned() {
            show(&mut certificates, alias, pair);
        }
    }
    for reading in served() {
        chooser.of_names_without_rules(reading, claims, &mut certificates);
    }
    Choice { certificates, tls_hosts }
}

fn show(certificates: &mut Certificates, pattern: &HostPattern, pair: Arc<Pair>) {
    match pattern {
        HostPattern::Exact(name) => certificates.exact.insert(name.clone(), pair),
        HostPattern::Wildcard(parent) => certificates.wildcard.insert(parent.clone(), pair),
        HostPattern::Any => None,
    };
}

fn shown<'c>(certificates: &'c Certificates, pattern: &HostPattern) -> Option<&'c Arc<Pair>> {
    match pattern {
        HostPattern::Exact(name) => certificates.exact.get(name),
        HostPattern::Wildcard(parent) => certificates.wildcard.get(parent),
        HostPattern::Any => None,
    }
}

/// Every Secret that is named, read once.
fn read_pairs<'r>(
    readings: impl Iterator<Item = &'r Reading>,
    default: Option<&'r ObjectKey>,
    resources: &Resources,
    mut before: KnownPairs,
) -> KnownPairs {
    let mut known = KnownPairs::new();
    let named = readings.flat_map(|reading| reading.tls.iter().filter_map(|entry| entry.secret.as_ref()));
    for key in named.chain(default) {
        if !known.contains_key(key) {
            known.insert(key.clone(), KnownPair::read(key, resources.secrets.get(key), before.remove(key)));
        }
    }
    known
}

fn say_what_is_wrong(reading: &Reading, pairs: &KnownPairs, findings: &mut Vec<Finding>) {
    for entry in &reading.tls {
        let Some(key) = &entry.secret else { continue };
        let KnownPair { good, trouble: Some(trouble), .. } = &pairs[key] else { continue };
        let meanwhile = if good.is_some() { "its last good certificate stays in service" } else { "the default certificate is served" };
        match trouble {
            Trouble::Missing => {
                let field = format!("{}.secretName", entry.field);
                let cure = format!("Create it with type kubernetes.io/tls; {meanwhile} meanwhile.");
                About::new("Ingress", &reading.key, findings).error(&field, "SecretNotFound", format!("there is no Secret {key}"), cure);
            }
            Trouble::Bad(bad) => say_bad(key, bad, meanwhile, findings),
        }
    }
}

fn say_bad(key: &ObjectKey, bad: &BadSecret, meanwhile: &str, findings: &mut Vec<Finding>) {
    let cure = format!("{} Meanwhile {meanwhile}.", bad.cure);
    About::new("Secret", key, findings).error(&bad.field, bad.reason, bad.message.clone(), cure);
}

/// The certificate that the operator named as default.
fn default_pair(key: &ObjectKey, known: &KnownPair, findings: &mut Vec<Finding>) -> Option<Arc<Pair>> {
    let meanwhile = if known.good.is_some() { "its last good certificate stays in service" } else { "a self-signed one is served" };
    match &known.trouble {
        None => {}
        Some(Trouble::Bad(bad)) => say_bad(key, bad, meanwhile, findings),
        Some(Trouble::Missing) => {
            let message = "the Secret with the default certificate does not exist";
            let cure = format!("Create it with type kubernetes.io/tls; {meanwhile} meanwhile.");
            About::new("Secret", key, findings).error("", "SecretNotFound", message, cure);
        }
    }
    known.good.as_ref().map(|good| good.pair.clone())
}

impl Chooser<'_> {
    fn good(&self, entry: &TlsEntry) -> Option<&Good> {
        self.pairs.get(entry.secret.as_ref()?)?.good.as_ref()
    }

    /// The pair of a host, `None` where no Ingress of its owner says anything about TLS.
    fn of_host(&mut self, pattern: &HostPattern, host: &HostClaims<'_>) -> Option<Arc<Pair>> {
        for reading in host.readings.iter().filter(|reading| Some(reading.key.namespace.as_str()) != host.owner()) {
            if let Some(entry) = reading.tls.iter().find(|entry| entry.hosts.contains(pattern)) {
                self.refuse(reading, entry, &host.written, host.owner().unwrap_or_default());
            }
        }
        let mut with_tls = host.owners().filter(|reading| !reading.tls.is_empty()).peekable();
        with_tls.peek()?;
        let pair = with_tls.find_map(|reading| self.of_reading(reading, pattern, &host.written));
        Some(pair.unwrap_or_else(|| self.default.clone()))
    }

    /// What this Ingress says: the entries that name the host, else the first whose certificate is good for it. Of several entries that
    /// name it the second adds the kind of key that the first lacks.
    fn of_reading(&mut self, reading: &Reading, pattern: &HostPattern, written: &str) -> Option<Arc<Pair>> {
        let naming: Vec<_> = reading.tls.iter().filter(|entry| entry.hosts.contains(pattern)).collect();
        if naming.is_empty() {
            let mut goods = reading.tls.iter().filter_map(|entry| self.good(entry));
            return goods.find(|good| host::is_covered(pattern, &good.names)).map(|good| good.pair.clone());
        }
        let mut chosen: Option<Arc<Pair>> = None;
        for entry in naming {
            let Some(good) = self.good(entry).cloned() else { continue };
            // A certificate without any DNS name is left to its client to judge.
            if !good.names.is_empty() && !host::is_covered(pattern, &good.names) {
                self.say_mismatch(reading, entry, written, &good.names);
                continue;
            }
            chosen = Some(match chosen {
                Some(first) if !Arc::ptr_eq(&first, &good.pair) => Arc::new(first.merge(&good.pair)),
                _ => good.pair,
            });
        }
        chosen
    }

    fn say_mismatch(&mut self, reading: &Reading, entry: &TlsEntry, host: &str, names: &[String]) {
        let names = names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("the certificate is good for {names}, and not for {host}");
        let cure = "Use a certificate for this host; the default certificate is served meanwhile.";
        let field = format!("{}.secretName", entry.field);
        About::new("Ingress", &reading.key, self.findings).error(&field, "CertificateNameMismatch", message, cure);
    }

    /// Certificates for names that no rule has: the host for all may serve them, or a wildcard of the same namespace.
    fn of_names_without_rules(&mut self, reading: &Reading, claims: &Claims<'_>, certificates: &mut Certificates) {
        for entry in &reading.tls {
            let Some(pair) = self.good(entry).map(|good| good.pair.clone()) else { continue };
            for pattern in entry.hosts.iter().filter(|pattern| !claims.hosts.contains_key(pattern)) {
                if shown(certificates, pattern).is_some() {
                    continue;
                }
                let parent = match pattern {
                    HostPattern::Exact(name) => name.split_once('.').map(|(_, parent)| HostPattern::Wildcard(parent.to_owned())),
                    _ => None,
                };
                let wildcard = parent.and_then(|parent| claims.hosts.get(&parent));
                match wildcard.and_then(HostClaims::owner) {
                    Some(owner) if owner != reading.key.namespace => self.refuse(reading, entry, &text(pattern), owner),
                    _ => show(certificates, pattern, pair.clone()),
                }
            }
        }
    }

    fn refuse(&mut self, reading: &Reading, entry: &TlsEntry, host: &str, owner: &str) {
        let message = format!("host {host} belongs to namespace {owner}, which had it first");
        let cure = "Configure TLS for this host there; this entry is ignored for it.";
        About::new("Ingress", &reading.key, self.findings).error(&format!("{}.hosts", entry.field), "TlsConflict", message, cure);
    }
}

fn text(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(parent) => format!("*.{parent}"),
        HostPattern::Any => "*".to_owned(),
    }
}
