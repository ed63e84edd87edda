//! What the end-to-end tests, the demo and the benches share: private servers and workloads.
