//! Measured choices of kernel variants: a small table that belongs to a device.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Names of the fastest variants by kernel family and class of shape, for example `matmul/large` and `tiled 128x128`.
///
/// A device has one table, which all clones of its [`super::Caps`] share. It is data: whoever reads a choice decides whether
/// to know the name, and falls back on a shipped one. No result depends on it.
#[derive(Debug, Clone, Default)]
pub struct Tuning(Arc<RwLock<BTreeMap<String, String>>>);

impl Tuning {
    /// The variant that was measured to be the fastest for a class.
    pub fn get_with<T>(&self, class: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(class).and_then(|name| read(name))
    }

    /// The same as text.
    pub fn get(&self, class: &str) -> Option<String> {
        self.get_with(class, |name| Some(name.to_owned()))
    }

    /// Sets the variant of a class, for every holder of this device.
    pub fn set(&self, class: &str, variant: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(class.to_owned(), variant.to_owned());
    }

    /// All classes with their variants, in order of the classes' names.
    pub fn entries(&self) -> Vec<(String, String)> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.iter().map(|(class, variant)| (class.clone(), variant.clone())).collect()
    }
}
