//! Stand-in.
/// o
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendOptions {
    /// s
    pub stream: u16,
    /// p
    pub ppid: u32,
    /// u
    pub unordered: bool,
    /// c
    pub context: u32,
    /// i
    pub immediate_ack: bool,
}
