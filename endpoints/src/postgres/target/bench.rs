//! For the micro benches: Arrow into the target's bytes, without a server.

use trem_engine::change::ChangeBatch;
use trem_engine::{Error, Result};

use super::copy::views_of;
use super::encode::Form;

/// The rows of a batch as a binary COPY; `receive` names the receive functions of the target's columns.
///
/// # Errors
/// A column whose values have no binary form there.
pub fn copy_of(batch: &ChangeBatch, receive: &[&str], out: &mut Vec<u8>) -> Result<()> {
    let types: Vec<_> = batch.table.columns.iter().map(|c| c.ty.clone()).collect();
    let forms: Option<Vec<Form>> = types.iter().zip(receive).map(|(t, r)| Form::of(t, r)).collect();
    let forms = forms.ok_or_else(|| Error::refused("no binary form"))?;
    let views = views_of(&batch.rows, &types)?;
    for row in 0..batch.len() {
        out.extend_from_slice(&(forms.len() as i16).to_be_bytes());
        for (column, form) in forms.iter().enumerate() {
            views.at(0, column).put_binary(*form, row, out)?;
        }
    }
    Ok(())
}
