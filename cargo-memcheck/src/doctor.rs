//! `cargo memcheck doctor`: what this machine permits.

use std::process::ExitCode;

use memcheck_harness::error::Result;
use memcheck_harness::model::Cancel;
use memcheck_harness::{doctor as machine, interrupt, report};

use crate::cli::{Invocation, MessageFormat};
use crate::terminal;

/// Tries everything and tells; fails when this machine cannot measure.
pub(crate) fn doctor(invocation: &Invocation) -> Result<ExitCode> {
    let cancel = Cancel::new();
    interrupt::on_signals(&cancel)?;
    let findings = machine::examine(&cancel)?;
    let can_measure = machine::can_measure(&findings);
    terminal::print(|out| match invocation.format {
        MessageFormat::Human => report::doctor(&findings, invocation.output_style, out),
        MessageFormat::Json => report::doctor_json(&findings, can_measure, out),
    })?;
    Ok(ExitCode::from(if can_measure {
        report::exit::OK
    } else {
        report::exit::MACHINE
    }))
}
