//! Which Ingresses are ours.
//!
//! The legacy annotation is asked first, as in ingress-nginx, then `spec.ingressClassName`. An API server fills the field of an Ingress
//! without class from the default IngressClass when the object is created, so in a cluster one without class was meant to have none;
//! a directory of manifests has nobody who fills it, so there the default class is looked up here.

use std::collections::HashMap;

use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::networking::v1::IngressClass;

use crate::translate::about::About;
use crate::translate::about::quoted;
use crate::translate::options::Options;
use crate::translate::resources::Resources;

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
const CLASS_FIELD: &str = "spec.ingressClassName";

/// Every IngressClass by name.
pub(crate) struct Classes<'r> {
    options: &'r Options,
    ours: HashMap<&'r str, bool>,
    default_is_ours: bool,
}

impl<'r> Classes<'r> {
    pub(crate) fn new(resources: &'r Resources, options: &'r Options) -> Self {
        let is_ours = |class: &IngressClass| {
            let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_ref());
            controller.is_some_and(|controller| options.controllers.contains(controller))
        };
        let classes = || resources.ingress_classes.iter().map(|(key, class)| (key.name.as_str(), class.as_ref()));
        Self {
            options,
            ours: classes().map(|(name, class)| (name, is_ours(class))).collect(),
            default_is_ours: classes().any(|(_, class)| is_ours(class) && is_default(class)),
        }
    }

    /// Whether this Ingress is served by us; why not is said only where somebody may have expected it.
    pub(crate) fn claim(&self, ingress: &Ingress, about: &mut About<'_>) -> bool {
        let annotation = ingress.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
        if let Some(name) = annotation.filter(|name| !name.is_empty()) {
            return *name == self.options.ingress_class || self.ours.get(name.as_str()).copied().unwrap_or(false);
        }
        let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
        match named {
            Some(name) => match self.ours.get(name) {
                Some(ours) => *ours,
                None => self.claim_without_object(name, about),
            },
            None => self.claim_without_class(about),
        }
    }

    fn claim_without_object(&self, name: &str, about: &mut About<'_>) -> bool {
        let ours = self.options.allow_loopback && name == self.options.ingress_class;
        let message = format!("there is no IngressClass {}", quoted(name));
        if ours {
            let controller = self.options.controllers.first().map_or("", String::as_str);
            let cure = format!("Served all the same, as manifests are; a cluster needs an IngressClass with spec.controller {controller}.");
            about.info(CLASS_FIELD, "IngressClassNotFound", message, cure);
        } else {
            about.info(CLASS_FIELD, "IngressClassNotFound", message, "Not served: create the IngressClass or name one that exists.");
        }
        ours
    }

    fn claim_without_class(&self, about: &mut About<'_>) -> bool {
        if self.options.watch_ingress_without_class || (self.options.allow_loopback && self.default_is_ours) {
            return true;
        }
        let cure = format!("Not served: set {CLASS_FIELD}, mark an IngressClass as default, or start with --watch-ingress-without-class.");
        about.info(CLASS_FIELD, "NoIngressClass", "the Ingress has no class", cure);
        false
    }
}

fn is_default(class: &IngressClass) -> bool {
    class.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_ANNOTATION)).is_some_and(|value| value == "true")
}
