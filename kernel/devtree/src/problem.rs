//! What is wrong with a guest's description, told so that its writer can find and mend it.

use alloc::string::{String, ToString};
use core::fmt;

/// What follows from a problem.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Nothing: worth knowing.
    Note,
    /// The property or node has no effect.
    Warning,
    /// The guest is left out.
    Refused,
}

/// One thing that is wrong: where, what was found, what was expected. Its text is one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// What follows.
    pub severity: Severity,
    /// Path of the node.
    pub node: String,
    /// Name of the property; empty if it is about the node.
    pub property: String,
    /// What stands there, as tree source would have it.
    pub found: String,
    /// What should.
    pub expected: String,
}

impl Problem {
    pub(crate) fn new(
        severity: Severity,
        node: &str,
        property: &str,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        Self::made(severity, node, property, &found, &expected)
    }

    // Once for all that is said of descriptions, which is much, and seldom.
    #[cold]
    #[inline(never)]
    fn made(
        severity: Severity,
        node: &str,
        property: &str,
        found: &dyn fmt::Display,
        expected: &dyn fmt::Display,
    ) -> Self {
        Self {
            severity,
            node: node.to_string(),
            property: property.to_string(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.node)?;
        if !self.property.is_empty() {
            write!(f, "{}: ", self.property)?;
        }
        write!(f, "found {}, expected {}", self.found, self.expected)?;
        f.write_str(match self.severity {
            Severity::Note => "",
            Severity::Warning => "; ignored",
            Severity::Refused => "; guest left out",
        })
    }
}
