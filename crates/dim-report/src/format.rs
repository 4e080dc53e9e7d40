//! Numbers for people.

use crate::{
    analysis::{Crossing, Estimate},
    record::Point,
};

/// What stands where there is nothing to say.
pub(crate) const NOTHING: &str = "–";

/// Three digits that count, or all before the point: `12,346`, `12.3`, `0.0123`.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = |value: f64| (2 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    // Rounding may bring one digit more before the point: 9.999 is 10.0, not 10.00.
    let rounded: f64 = format!("{value:.*}", decimals(value)).parse().unwrap_or(value);
    let text = format!("{value:.*}", if rounded == 0.0 { 9 } else { decimals(rounded) });
    match text.split_once('.') {
        Some((whole, part)) => format!("{}.{part}", thousands(whole)),
        None => thousands(&text),
    }
}

/// `50568716` as `50,568,716`, from digits.
fn thousands(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A whole number with separators.
pub(crate) fn count(value: u64) -> String {
    thousands(&value.to_string())
}

/// A number of pixels.
pub(crate) fn px(value: f64) -> String {
    format!("{} px", thousands(&format!("{value:.0}")))
}

/// Bytes in GiB.
pub(crate) fn gib(bytes: u64) -> String {
    format!("{} GiB", number(to_gib(bytes)))
}

/// Bytes as a number of GiB.
pub(crate) fn to_gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// A weight of guidance, or none.
pub(crate) fn guidance(guided_by: Option<f64>) -> String {
    guided_by.map_or_else(|| "no guidance".to_owned(), |scale| format!("guided by {scale}"))
}

/// `53 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// `1.52 ×`.
pub(crate) fn times(ratio: f64) -> String {
    format!("{} ×", number(ratio))
}

/// An image size with its interval: `1,423 px (1,401 to 1,440)`.
pub(crate) fn px_interval(of: Estimate) -> String {
    let [low, high] = [of.low, of.high].map(|value| thousands(&format!("{value:.0}")));
    let value = px(of.value);
    if low == high { value } else { format!("{value} ({low} to {high})") }
}

/// What became of an overtaking, as the rest of a sentence that began with the names.
pub(crate) fn crossing(crossing: &Crossing) -> String {
    let lasting = |stays: bool| if stays { "" } else { ", but not at every larger size" };
    match *crossing {
        Crossing::At { image_px, stays } => format!("at {}{}", px_interval(image_px), lasting(stays)),
        Crossing::AlreadyAhead { smallest_px, ratio, stays } => {
            format!("ahead at {} already, {}{}", px(smallest_px.into()), times(ratio), lasting(stays))
        }
        Crossing::NeverAhead { largest_px, ratio } => {
            format!("not up to {}: {} as fast there", px(largest_px.into()), times(ratio))
        }
    }
}

/// One point in a sentence.
pub(crate) fn point(point: &Point) -> String {
    let place = format!("{}, {}", point.model, px(point.image_px.into()));
    let Some((of, [median, p10, p90])) = point.measurement().zip(point.ms_per_image()) else {
        let why = point.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
        return format!("{place}: {}{why}", point.outcome.name());
    };
    let memory = of.peak_memory_bytes.map_or(String::new(), |bytes| format!(", {}", gib(bytes)));
    let [median, p10, p90] = [median, p10, p90].map(number);
    let (tokens, speed) = (count(point.tokens), number(of.images_per_s));
    format!(
        "{place}: {median} ms per image ({p10} to {p90}), {speed} images/s at batch {}, {tokens} tokens{memory}",
        point.batch
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_or_all_before_the_point() {
        for (value, text) in [
            (0.0, "0"),
            (0.012_345, "0.0123"),
            (0.999_9, "1.00"),
            (1.0, "1.00"),
            (9.999, "10.0"),
            (12.345, "12.3"),
            (999.9, "1,000"),
            (12_345.6, "12,346"),
            (1e7, "10,000,000"),
            (-1234.5, "-1,234"),
            (f64::NAN, NOTHING),
        ] {
            assert_eq!(number(value), text, "{value}");
        }
    }

    #[test]
    fn crossings_read_as_the_rest_of_a_sentence() {
        let at = |stays| Crossing::At { image_px: Estimate { value: 1423.4, low: 1401.0, high: 1440.2 }, stays };
        assert_eq!(crossing(&at(true)), "at 1,423 px (1,401 to 1,440)");
        assert_eq!(crossing(&at(false)), "at 1,423 px (1,401 to 1,440), but not at every larger size");
        let never = Crossing::NeverAhead { largest_px: 4096, ratio: 0.431 };
        assert_eq!(crossing(&never), "not up to 4,096 px: 0.431 × as fast there");
        let already = Crossing::AlreadyAhead { smallest_px: 256, ratio: 1.5, stays: true };
        assert_eq!(crossing(&already), "ahead at 256 px already, 1.50 ×");
    }
}
