//! Figures of many measurements: percentiles, and whether a curve bends.
//!
//! Why here: pure, so that the sections' own arithmetic is tested. Route in: numbers. Route out: numbers.

/// The value at or below which `percent` of all lie (nearest rank); 0 without values.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// The last value by the first: how much more each node costs where there are the most. None if the first is nothing.
pub fn bend(values: &[f64]) -> Option<f64> {
    let (first, last) = (values.first()?, values.last()?);
    (*first > 0.0).then(|| last / first)
}

/// Sum of every counter `name` in a page of metrics, by the value of its label.
pub fn counters(page: &str, name: &str, label: &str) -> std::collections::BTreeMap<String, f64> {
    let mut sums = std::collections::BTreeMap::new();
    for line in page.lines() {
        let Some(rest) = line.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')) else { continue };
        let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
        let of = labels.split(',').find_map(|pair| pair.strip_prefix(label)?.strip_prefix("=\""));
        let Some(of) = of.and_then(|of| of.strip_suffix('"')) else { continue };
        *sums.entry(of.to_owned()).or_default() += value.trim().parse::<f64>().unwrap_or_default();
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=50).rev().map(f64::from).collect();
        assert_eq!([50, 95, 100].map(|percent| percentile(&values, percent)), [25.0, 48.0, 50.0]);
        assert_eq!([percentile(&[3.0], 50), percentile(&[3.0], 95), percentile(&[], 95)], [3.0, 3.0, 0.0]);
    }

    #[test]
    fn a_curve_that_stays_flat_has_the_ratio_one() {
        assert_eq!(bend(&[0.5, 9.0, 0.75]), Some(1.5));
        assert_eq!(bend(&[0.5]), Some(1.0));
        assert_eq!((bend(&[]), bend(&[0.0, 1.0])), (None, None));
    }

    #[test]
    fn counters_are_summed_by_a_label_and_other_metrics_are_left_out() {
        let page = "# TYPE dispatched counter\ndispatched{flow_schema=\"system-nodes\",level=\"a\"} 3\n\
                    dispatched{flow_schema=\"system-nodes\",level=\"b\"} 4\ndispatched{flow_schema=\"exempt\",level=\"a\"} 1e+01\n\
                    dispatched_other{flow_schema=\"exempt\"} 7\ndispatched{level=\"a\"} 9\n";
        let sums = counters(page, "dispatched", "flow_schema");
        assert_eq!(sums, [("exempt".to_owned(), 10.0), ("system-nodes".to_owned(), 7.0)].into());
    }
}
