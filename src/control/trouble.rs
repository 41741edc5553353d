//! What is wrong between Corelane and an API server, in one line with its cure.

use std::error::Error;

use kube::runtime::watcher;

/// Says why objects of `plural` cannot be watched. `namespace` is where they were asked for, if not everywhere.
pub(crate) fn watching(error: &watcher::Error, plural: &str, namespace: Option<&str>) -> String {
    let status = match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            return asking(error, "get, list and watch", plural, namespace);
        }
        watcher::Error::WatchError(status) => status,
        watcher::Error::NoResourceVersion => return "an object came without resourceVersion; the kind is listed again".to_owned(),
    };
    if status.code == 410 {
        return "the API server has forgotten the version to resume from; the kind is listed again".to_owned();
    }
    asking(&kube::Error::Api(status.clone()), "get, list and watch", plural, namespace)
}

/// Says why a request about `plural` failed, which needs the right to `verbs`.
pub(crate) fn asking(error: &kube::Error, verbs: &str, plural: &str, namespace: Option<&str>) -> String {
    match error {
        kube::Error::Api(status) => match status.code {
            401 => "the API server does not accept the credentials: renew the token or client certificate of the kubeconfig".to_owned(),
            403 => {
                let role = namespace.map_or_else(|| "a ClusterRole".to_owned(), |namespace| format!("a Role in namespace {namespace}"));
                format!("not allowed: grant {verbs} on {plural} in {role} ({})", status.message)
            }
            404 if status.message.contains("could not find the requested resource") => format!("the cluster does not know {plural}"),
            429 => "the API server asks for patience (429)".to_owned(),
            code => format!("the API server answered {code}: {}", status.message),
        },
        other => {
            // The cause that helps stands at the end of the chain.
            let mut cause: &dyn Error = other;
            while let Some(next) = cause.source() {
                cause = next;
            }
            format!("the API server cannot be reached or understood: {cause}")
        }
    }
}
