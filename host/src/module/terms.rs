//! Terms: the rules of the config that a module is loaded with.

/// The rules that a generation is loaded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Number of this generation; unique while the host runs.
    pub generation: u64,
    /// Bytes of output that a remuxer may make in one call, in addition to 16 times the tags and configurations that it is
    /// made of.
    pub max_output: usize,
    /// Faults within a minute that are tolerated on a stream before its mount closes.
    pub max_faults: u32,
    /// Whether the library is unmapped after its last use; otherwise it stays mapped forever.
    pub unload: bool,
}

impl Terms {
    /// Whether the rules are equal, whatever the generation.
    pub fn same_rules(&self, other: &Terms) -> bool {
        *self == Terms { generation: self.generation, ..other.clone() }
    }
}
