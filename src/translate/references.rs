//! Objects that others name: the only ones of their kinds that need to be read at all.

use std::collections::BTreeSet;

use crate::snapshot::finding::ObjectKey;

/// What was named, whether it exists or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    pub secrets: BTreeSet<ObjectKey>,
    pub config_maps: BTreeSet<ObjectKey>,
}
