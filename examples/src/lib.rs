//! What every Tidewire program shares: flags, device set-up, JSON output.
