//! Settings become the configuration of each room; defaults are added, and what does not fit together is refused.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::admin;
use crate::config::invocation::Refusal;
use crate::config::invocation::Run;
use crate::config::settings::Settings;
use crate::config::value::Address;
use crate::control;
use crate::control::ClusterConfig;
use crate::control::SecretsMode;
use crate::control::SourceConfig;
use crate::shard::ListenerConfig;
use crate::telemetry::access_log::Destination;
use crate::telemetry::access_log::Format;
use crate::telemetry::program_log;
use crate::telemetry::program_log::Level;
use crate::translate::Options;

/// Where health, metrics and inspection are served.
pub(super) const ADMIN: Address = Address(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9900));
const HTTP: Address = Address(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 80));
const HTTPS: Address = Address(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 443));
const STATE_DIR: &str = "/var/lib/corelane";
const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);
const PRE_STOP_DELAY: Duration = Duration::from_secs(5);

/// What `run` needs.
pub(super) fn run(settings: Settings) -> Result<Run, Refusal> {
    let listeners = listeners(&settings)?;
    let log = log(&settings);
    let destination = settings.access_log.clone().map_or(Destination::Stdout, |to| to.0);
    Ok(Run {
        listeners,
        placement: settings.shards.clone().map(|shards| shards.0).unwrap_or_default(),
        drain_timeout: settings.drain_timeout.map_or(DRAIN_TIMEOUT, |seconds| seconds.0),
        pre_stop_delay: settings.pre_stop_delay.map_or(PRE_STOP_DELAY, |seconds| seconds.0),
        admin: admin::Config { address: settings.admin.unwrap_or(ADMIN).0 },
        access_log: destination,
        access_log_format: settings.access_log_format.map_or(Format::Json, |word| word.0),
        log,
        control: control(settings)?,
    })
}

/// Where objects come from and how they are read.
pub(super) fn control(settings: Settings) -> Result<control::Config, Refusal> {
    let defaults = Options::default();
    let options = Options {
        backend_mode: settings.backend_mode.map_or(defaults.backend_mode, |word| word.0),
        ingress_class: settings.ingress_class.clone().unwrap_or(defaults.ingress_class),
        controllers: if settings.controller.is_empty() { defaults.controllers } else { settings.controller.clone() },
        watch_ingress_without_class: settings.watch_ingress_without_class.unwrap_or(defaults.watch_ingress_without_class),
        annotations_prefix: settings.annotations_prefix.clone().map_or(defaults.annotations_prefix, |name| name.0),
        config_map: settings.configmap.clone().map(|object| object.0),
        default_certificate: settings.default_ssl_certificate.clone().map(|object| object.0),
        allow_loopback: !settings.manifests.is_empty(),
    };
    Ok(control::Config {
        options,
        publish_status_addresses: settings.publish_status_address.iter().map(|published| published.0.clone()).collect(),
        state_dir: match settings.state_dir.as_deref() {
            Some("") => None,
            Some(directory) => Some(PathBuf::from(directory)),
            None => Some(PathBuf::from(STATE_DIR)),
        },
        source: source(settings)?,
    })
}

/// The program's own log.
pub(super) fn log(settings: &Settings) -> program_log::Config {
    program_log::Config { level: settings.log_level.map_or(Level::INFO, |word| word.0), format: settings.log_format.map(|word| word.0) }
}

fn source(settings: Settings) -> Result<SourceConfig, Refusal> {
    if settings.manifests.is_empty() {
        return cluster(settings).map(SourceConfig::Cluster);
    }
    for (set, name) in [(settings.kubeconfig.is_some(), "kubeconfig"), (settings.context.is_some(), "context")] {
        if set {
            return Err(Refusal::Config(format!("manifests and {name} are both set: serve a directory or a cluster, remove one of them")));
        }
    }
    Ok(SourceConfig::Manifests { directories: settings.manifests, namespaces: settings.namespace })
}

fn cluster(settings: Settings) -> Result<ClusterConfig, Refusal> {
    if settings.kubeconfig.is_none() && !environment_names_a_cluster() {
        return Err(Refusal::Config(
            "there is nothing to serve: name a directory with --manifests DIR, or a cluster with --kubeconfig FILE or KUBECONFIG; \
             inside a pod the cluster around it is found by itself"
                .to_owned(),
        ));
    }
    Ok(ClusterConfig {
        kubeconfig: settings.kubeconfig,
        context: settings.context,
        namespaces: settings.namespace,
        secrets: settings.secrets.map_or(SecretsMode::Watch, |word| word.0),
    })
}

/// Whether KUBECONFIG or the variables of a pod say where a cluster is.
fn environment_names_a_cluster() -> bool {
    ["KUBECONFIG", "KUBERNETES_SERVICE_HOST"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn listeners(settings: &Settings) -> Result<Vec<ListenerConfig>, Refusal> {
    let or_default = |given: &[Address], default| if given.is_empty() { vec![default] } else { given.to_vec() };
    let named = |scheme: &str, tls, addresses: Vec<Address>| {
        let listener = |Address(address)| ListenerConfig { name: format!("{scheme}/{address}"), address, tls };
        addresses.into_iter().map(listener).collect::<Vec<_>>()
    };
    let mut listeners = named("http", false, or_default(&settings.http, HTTP));
    listeners.extend(named("https", true, or_default(&settings.https, HTTPS)));
    for (index, listener) in listeners.iter().enumerate() {
        let twice = listeners[..index].iter().any(|other| other.address == listener.address && other.address.port() != 0);
        if twice {
            return Err(Refusal::Config(format!("{} is listened on twice: remove one of the http and https settings", listener.address)));
        }
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;

    fn run_with(yaml: &str) -> Result<Run, String> {
        let settings = file::parse(yaml)?;
        run(settings).map_err(|refusal| match refusal {
            Refusal::Usage(message) | Refusal::Config(message) => message,
        })
    }

    /// What is not set has the default that the help names.
    #[test]
    fn defaults_are_those_of_the_contract() {
        let run = run_with("manifests: m").expect("a directory is all that must be named");
        let names: Vec<&str> = run.listeners.iter().map(|listener| listener.name.as_str()).collect();
        assert_eq!(names, ["http/[::]:80", "https/[::]:443"]);
        assert_eq!(run.admin.address.to_string(), "127.0.0.1:9900");
        assert_eq!((run.drain_timeout.as_secs(), run.pre_stop_delay.as_secs()), (300, 5));
        assert_eq!((run.access_log, run.access_log_format), (Destination::Stdout, Format::Json));
        assert_eq!(run.log, program_log::Config { level: Level::INFO, format: None });
        assert_eq!(run.control.state_dir, Some(PathBuf::from("/var/lib/corelane")));
        assert_eq!(run.control.options.controllers, ["corelane.dev/ingress-controller"]);
        assert!(run.control.options.allow_loopback, "a directory may name loopback addresses");
    }

    /// Settings that contradict each other are refused, with what to remove.
    #[test]
    fn contradictions_are_refused() {
        for (yaml, cure) in [
            ("manifests: m\nkubeconfig: k", "remove one of them"),
            ("manifests: m\ncontext: c", "remove one of them"),
            ("manifests: m\nhttp: [127.0.0.1:80, 127.0.0.1:80]", "listened on twice"),
            ("manifests: m\nhttp: 127.0.0.1:80\nhttps: 127.0.0.1:80", "listened on twice"),
        ] {
            let refusal = run_with(yaml).expect_err("a contradiction");
            assert!(refusal.contains(cure), "{yaml}: {refusal}");
        }
        assert!(run_with("manifests: m\nhttp: [127.0.0.1:0, 127.0.0.1:0]").is_ok(), "two free ports are two listeners");
    }

    /// An empty state directory keeps nothing on disk.
    #[test]
    fn an_empty_state_directory_keeps_nothing() {
        let run = run_with("manifests: m\nstate_dir: ''").expect("valid settings");
        assert_eq!(run.control.state_dir, None);
    }
}
