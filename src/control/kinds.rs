//! The kinds of objects that translation reads, so that a source says once for all of them what it does.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::Client;
use kube::core::DeserializeGuard;
use serde::de::DeserializeOwned;

use crate::snapshot::finding::ObjectKey;
use crate::translate::resources::Resources;

/// Every object of one kind.
pub(crate) type Objects<K> = BTreeMap<ObjectKey, Arc<K>>;

/// One kind of object, and where [`Resources`] keeps it.
pub(crate) trait Kind:
    k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
    /// Whether its objects live in a namespace.
    const NAMESPACED: bool;

    fn of(resources: &Resources) -> &Objects<Self>;

    fn of_mut(resources: &mut Resources) -> &mut Objects<Self>;

    /// The way to these objects in a cluster: of one namespace, or of all. One that does not decode is told from the others.
    fn api(client: &Client, namespace: Option<&str>) -> Api<DeserializeGuard<Self>>;

    /// What an API server does to an object before it stores it.
    fn admit(&mut self) {}
}

macro_rules! kind {
    ($kind:ty, $field:ident, cluster) => {
        kind!($kind, $field, false, |client, _namespace| Api::all(client), {});
    };
    ($kind:ty, $field:ident, namespaced $(, $more:item)?) => {
        kind!($kind, $field, true, |client, namespace| match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }, { $($more)? });
    };
    ($kind:ty, $field:ident, $namespaced:literal, |$client:ident, $namespace:ident| $api:expr, { $($more:item)? }) => {
        impl Kind for $kind {
            const NAMESPACED: bool = $namespaced;

            fn of(resources: &Resources) -> &Objects<Self> {
                &resources.$field
            }

            fn of_mut(resources: &mut Resources) -> &mut Objects<Self> {
                &mut resources.$field
            }

            fn api(client: &Client, $namespace: Option<&str>) -> Api<DeserializeGuard<Self>> {
                let $client = client.clone();
                $api
            }

            $($more)?
        }
    };
}

kind!(Ingress, ingresses, namespaced);
kind!(IngressClass, ingress_classes, cluster);
kind!(Service, services, namespaced);
kind!(EndpointSlice, endpoint_slices, namespaced);
kind!(Node, nodes, cluster);
kind!(
    Secret,
    secrets,
    namespaced,
    fn admit(&mut self) {
        for (name, text) in self.string_data.take().unwrap_or_default() {
            self.data.get_or_insert_default().insert(name, k8s_openapi::ByteString(text.into_bytes()));
        }
    }
);
kind!(ConfigMap, config_maps, namespaced);
kind!(Namespace, namespaces, cluster);

/// Something to do for every kind.
pub(crate) trait Visitor {
    fn visit<K: Kind>(&mut self);
}

/// Visits every kind, in a fixed order.
pub(crate) fn each(visitor: &mut impl Visitor) {
    visitor.visit::<Ingress>();
    visitor.visit::<IngressClass>();
    visitor.visit::<Service>();
    visitor.visit::<EndpointSlice>();
    visitor.visit::<Node>();
    visitor.visit::<Secret>();
    visitor.visit::<ConfigMap>();
    visitor.visit::<Namespace>();
}

/// Namespace and name of an object.
pub(crate) fn key(metadata: &ObjectMeta) -> ObjectKey {
    ObjectKey { namespace: metadata.namespace.clone().unwrap_or_default(), name: metadata.name.clone().unwrap_or_default() }
}

/// `ingresses.networking.k8s.io`, as `kubectl` and RBAC rules name a kind.
pub(crate) fn plural<K: Kind>() -> String {
    if K::GROUP.is_empty() { K::URL_PATH_SEGMENT.to_owned() } else { format!("{}.{}", K::URL_PATH_SEGMENT, K::GROUP) }
}

/// How many objects there are of all kinds.
pub(crate) fn count(resources: &Resources) -> usize {
    struct Count<'r>(&'r Resources, usize);
    impl Visitor for Count<'_> {
        fn visit<K: Kind>(&mut self) {
            self.1 += K::of(self.0).len();
        }
    }
    let mut count = Count(resources, 0);
    each(&mut count);
    count.1
}

/// Adds to `resources` the objects of `others` that it does not have yet; says which it had.
pub(crate) fn adopt(resources: &mut Resources, others: &Resources) -> Vec<(&'static str, ObjectKey)> {
    struct Adopt<'r> {
        resources: &'r mut Resources,
        others: &'r Resources,
        had: Vec<(&'static str, ObjectKey)>,
    }
    impl Visitor for Adopt<'_> {
        fn visit<K: Kind>(&mut self) {
            let own = K::of_mut(self.resources);
            for (key, object) in K::of(self.others) {
                if own.contains_key(key) {
                    self.had.push((K::KIND, key.clone()));
                } else {
                    own.insert(key.clone(), object.clone());
                }
            }
        }
    }
    let mut adopt = Adopt { resources, others, had: Vec::new() };
    each(&mut adopt);
    adopt.had
}

/// Adds to `resources` one object of `others`, if that has it and `resources` has not.
pub(crate) fn adopt_one(resources: &mut Resources, others: &Resources, kind: &str, key: &ObjectKey) {
    struct AdoptOne<'r> {
        resources: &'r mut Resources,
        others: &'r Resources,
        kind: &'r str,
        key: &'r ObjectKey,
    }
    impl Visitor for AdoptOne<'_> {
        fn visit<K: Kind>(&mut self) {
            if K::KIND == self.kind
                && let Some(object) = K::of(self.others).get(self.key)
            {
                K::of_mut(self.resources).entry(self.key.clone()).or_insert_with(|| object.clone());
            }
        }
    }
    each(&mut AdoptOne { resources, others, kind, key });
}
