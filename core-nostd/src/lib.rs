//! The sedge log, its entries and the custody protocol, for microcontrollers and Linux alike.
#![no_std]
