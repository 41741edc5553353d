//! `custom-headers`: response fields out of a ConfigMap.

use std::sync::Arc;

use crate::snapshot::finding::ObjectKey;
use crate::snapshot::rule::ResponseField;
use crate::translate::about::quoted;
use crate::translate::annotations::access;
use crate::translate::annotations::notes::Notes;
use crate::translate::annotations::notes::Unservable;
use crate::translate::config_map::Globals;
use crate::translate::references::References;
use crate::translate::resources::Resources;
use crate::translate::value;

const NAME: &str = "custom-headers";

/// Fields that frame a message: nobody but Corelane writes them.
const FRAMING: &[&str] =
    &["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Name and value of each field; one that is not allowed refuses everybody.
pub(super) fn response_fields(
    notes: &mut Notes<'_, '_>,
    ingress: &ObjectKey,
    resources: &Resources,
    globals: &Globals,
    references: &mut References,
) -> Result<Arc<[ResponseField]>, Unservable> {
    let none = Arc::from([]);
    if notes.text(NAME).is_none() {
        return Ok(none);
    }
    let Some(key) = access::reference(notes, NAME, ingress, globals)? else { return Ok(none) };
    references.config_maps.insert(key.clone());
    let Some(config_map) = resources.config_maps.get(&key) else {
        notes.deny(NAME, "ConfigMapNotFound", format!("the ConfigMap {key} does not exist"), "Create it, or name another.");
        return Ok(none);
    };
    let mut fields = Vec::new();
    for (name, text) in config_map.data.iter().flatten() {
        let lower = name.to_ascii_lowercase();
        let (reason, what) = if !value::is_field_name(name) || FRAMING.contains(&lower.as_str()) {
            ("InvalidField", "is no name that may be set")
        } else if !value::is_field_value(text) {
            ("InvalidField", "has a value that is no single line of text")
        } else if !globals.allowed_response_headers.contains(&lower) {
            ("FieldNotAllowed", "is not listed in global-allowed-response-headers")
        } else {
            fields.push((Arc::from(name.as_str()), Arc::from(text.trim())));
            continue;
        };
        let message = format!("the field {} of the ConfigMap {key} {what}", quoted(name));
        notes.deny(NAME, reason, message, "Mend the ConfigMap, or list the field in global-allowed-response-headers.");
        return Ok(none);
    }
    Ok(fields.into())
}
