//! Forwarder, hub and consumer client of sedge.
