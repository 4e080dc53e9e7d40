//! Stopping on request: the first signal asks for an orderly end after the present step, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Signals that ask for an end: Ctrl-C, and what clusters send before they kill.
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// Tells whether somebody asked the process to stop.
pub struct StopRequest {
    signal: Arc<AtomicUsize>,
}

impl StopRequest {
    /// Starts to listen. From here on one signal no longer ends the process, a second one does, without any clean-up.
    ///
    /// # Errors
    /// The system refuses a signal handler.
    pub fn listen() -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        // One flag for each signal: two that come together are handled by two threads at once. Each handler sets its own
        // flag before it looks at the others', so at least one of them sees that it is the second.
        let came: Vec<Arc<AtomicBool>> = SIGNALS.iter().map(|_| Arc::default()).collect();
        for (own, number) in SIGNALS.into_iter().enumerate() {
            // The actions of a signal run in this order.
            let shut_down_after = |flag: &Arc<AtomicBool>| {
                flag::register_conditional_shutdown(number, exit_code(number).into(), Arc::clone(flag))
            };
            shut_down_after(&came[own])?;
            flag::register(number, Arc::clone(&came[own]))?;
            for (_, other) in came.iter().enumerate().filter(|(index, _)| *index != own) {
                shut_down_after(other)?;
            }
            flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        }
        Ok(Self { signal })
    }

    /// The exit code for the signal that came, if one did: 130 after Ctrl-C, 143 after SIGTERM.
    pub fn requested(&self) -> Option<u8> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            number => Some(exit_code(number as i32)),
        }
    }
}

/// The shell's convention: 128 plus the signal's number.
fn exit_code(signal: i32) -> u8 {
    128 + signal as u8
}
