//! From a kubeconfig, or from inside a pod, to a client of the API server.

use std::time::Duration;

use kube::Client;
use kube::Config;
use kube::config::KubeConfigOptions;
use kube::config::Kubeconfig;

use crate::control::config::ClusterConfig;
use crate::control::config::StartError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that is silent for longer is dead: a watch ends earlier by itself.
const READ_TIMEOUT: Duration = Duration::from_secs(75);

/// Makes a client; nothing is sent yet.
///
/// # Errors
/// There is no kubeconfig, or it does not say what is needed.
pub(crate) async fn client(cluster: &ClusterConfig) -> Result<Client, StartError> {
    let options = KubeConfigOptions { context: cluster.context.clone(), ..KubeConfigOptions::default() };
    let (config, place) = match &cluster.kubeconfig {
        Some(path) => {
            let place = format!("kubeconfig {}", path.display());
            let read = Kubeconfig::read_from(path).map_err(|error| start_error(&place, &error))?;
            (Config::from_custom_kubeconfig(read, &options).await.map_err(|error| start_error(&place, &error)), place)
        }
        None if cluster.context.is_some() => {
            let place = "kubeconfig of KUBECONFIG or ~/.kube/config".to_owned();
            (Config::from_kubeconfig(&options).await.map_err(|error| start_error(&place, &error)), place)
        }
        None => {
            let place = "kubeconfig of KUBECONFIG or ~/.kube/config, and the service account of a pod".to_owned();
            (Config::infer().await.map_err(|error| start_error(&place, &error)), place)
        }
    };
    let mut config = config?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    Client::try_from(config).map_err(|error| start_error(&place, &error))
}

fn start_error(place: &str, error: &dyn std::error::Error) -> StartError {
    StartError {
        message: format!(
            "no way to the cluster: {place}: {error}; correct --kubeconfig or --context, or serve a directory with --manifests"
        ),
    }
}
