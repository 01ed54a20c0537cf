//! A gate that requests wait at until the test lets them through: order without a clock.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::client::PATIENCE;

/// The test's side of a gate.
pub struct Gate {
    arrived: Receiver<()>,
    open: Sender<()>,
}

/// The side that requests wait at.
pub struct Door {
    arrived: Sender<()>,
    open: Mutex<Receiver<()>>,
}

/// A closed gate, from both sides.
pub fn gate() -> (Gate, Door) {
    let ((arrive, arrived), (open, opened)) = (channel(), channel());
    (Gate { arrived, open }, Door { arrived: arrive, open: Mutex::new(opened) })
}

impl Gate {
    /// Waits until one more has arrived.
    pub fn wait(&self) {
        self.arrived.recv_timeout(PATIENCE).expect("somebody arrives");
    }

    /// Lets one through.
    pub fn open(&self) {
        self.open.send(()).expect("somebody waits");
    }
}

impl Door {
    /// Arrives, and waits to be let through.
    pub fn pass(&self) {
        // A test that is over waits for nobody.
        if self.arrived.send(()).is_ok() {
            self.open.lock().expect("no panic while held").recv_timeout(PATIENCE).ok();
        }
    }
}
