//! Criterion benches, the load generator and the floor model of sedge.
