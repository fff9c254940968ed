//! One way to write each number, so that a key says the same however the producer wrote it, and no two numbers share one.

/// Zeros written out before a power of ten is shorter.
const ZEROS_MAX: i64 = 40;

/// The shortest exact form of a number as JSON writes it; none if its power of ten is absurd.
pub(super) fn canonical(text: &str) -> Option<String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let power = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(zeros)?;
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let length = i64::try_from(significant.len()).ok()?;
    let size = usize::try_from(power.unsigned_abs()).ok();
    Some(match size {
        Some(zeros) if (0..=ZEROS_MAX).contains(&power) => format!("{sign}{significant}{}", "0".repeat(zeros)),
        Some(places) if power < 0 && power.checked_neg()? < length => {
            let (whole, fraction) = significant.split_at(significant.len() - places);
            format!("{sign}{whole}.{fraction}")
        }
        Some(places) if power < 0 && power.checked_neg()? <= length + ZEROS_MAX => {
            format!("{sign}0.{}{significant}", "0".repeat(places - significant.len()))
        }
        _ => format!("{sign}{significant}e{power}"),
    })
}
