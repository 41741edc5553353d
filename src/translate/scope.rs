//! What every step of one translation may read.

use crate::translate::config_map::Globals;
use crate::translate::options::Options;
use crate::translate::resources::Resources;

/// The objects, the operator's choices, and the global settings.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'r> {
    pub(crate) resources: &'r Resources,
    pub(crate) options: &'r Options,
    pub(crate) globals: &'r Globals,
}
