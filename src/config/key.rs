//! Where a setting is in the tree: `cookie.name`, `routes[0].path`.

use std::fmt;

/// The way from the root of the settings to one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Name(String),
    Element(usize),
}

impl Key {
    /// The key of names parted by dots.
    pub(super) fn dotted(text: &str) -> Self {
        Self(text.split('.').map(|name| Step::Name(name.to_owned())).collect())
    }

    /// The key of what this table calls `name`.
    pub(super) fn child(&self, name: &str) -> Self {
        self.with(Step::Name(name.to_owned()))
    }

    /// The key of an element of this list.
    pub(super) fn element(&self, index: usize) -> Self {
        self.with(Step::Element(index))
    }

    fn with(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// The table or list that this is in; `None` at the root.
    pub(super) fn parent(&self) -> Option<Self> {
        self.0.split_last().map(|(_, above)| Self(above.to_vec()))
    }

    /// The names on the way; elements of lists have none.
    pub(super) fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.iter().filter_map(|step| match step {
            Step::Name(name) => Some(name.as_str()),
            Step::Element(_) => None,
        })
    }

    /// How many steps from the root.
    pub(super) fn depth(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Element(index) => write!(f, "[{index}]")?,
                Step::Name(name) => {
                    f.write_str(if n == 0 { "" } else { "." })?;
                    let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
                    let is_bare = !name.is_empty() && name.chars().all(bare);
                    if is_bare { f.write_str(name)? } else { write!(f, "{name:?}")? }
                }
            }
        }
        Ok(())
    }
}
