//! A simulated thermometer: wanders slowly, the same way after each start.

/// A thermometer.
#[derive(Debug)]
pub(crate) struct Sensor {
    centi_degrees: i32,
    dice: u32,
}

impl Sensor {
    pub(crate) const fn new(seed: u32) -> Self {
        Self {
            centi_degrees: 2150,
            dice: seed,
        }
    }

    /// Hundredths of a degree Celsius, between 0 and 100 degrees.
    pub(crate) fn measure(&mut self) -> i32 {
        self.dice = self
            .dice
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let step = (self.dice >> 29) as i32 - 3;
        self.centi_degrees = (self.centi_degrees + step).clamp(0, 10_000);
        self.centi_degrees
    }
}
