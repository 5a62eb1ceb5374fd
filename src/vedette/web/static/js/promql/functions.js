// The words of PromQL, for completion and colour: what each function gives, in a line.

export const AGGREGATIONS = {
  sum: "Sum over the group",
  avg: "Mean over the group",
  min: "Smallest of the group",
  max: "Largest of the group",
  count: "How many series the group has",
  group: "1 for each group that has a series",
  stddev: "Population standard deviation over the group",
  stdvar: "Population variance over the group",
  topk: "The k largest series: topk(5, …)",
  bottomk: "The k smallest series: bottomk(5, …)",
  quantile: "The φ-quantile of the group: quantile(0.9, …)",
  count_values: 'How many series have each value: count_values("version", …)',
  limitk: "k series of the group",
  limit_ratio: "About this share of the series of the group",
};

// Those that take a range vector: after their name, a selector needs a window such as [5m].
export const RANGE_FUNCTIONS = {
  rate: "Increase per second of a counter, over the window",
  irate: "Increase per second of a counter, from its last two samples",
  increase: "Increase of a counter over the window",
  delta: "Difference of a gauge over the window",
  idelta: "Difference between the last two samples",
  deriv: "Slope per second of a gauge, by linear regression",
  predict_linear: "Value of a gauge in t seconds, by linear regression",
  changes: "How often the value changed in the window",
  resets: "How often a counter was reset in the window",
  avg_over_time: "Mean of the samples in the window",
  min_over_time: "Smallest sample in the window",
  max_over_time: "Largest sample in the window",
  sum_over_time: "Sum of the samples in the window",
  count_over_time: "How many samples the window has",
  quantile_over_time: "φ-quantile of the samples in the window",
  stddev_over_time: "Population standard deviation in the window",
  stdvar_over_time: "Population variance in the window",
  last_over_time: "Last sample in the window",
  first_over_time: "First sample in the window",
  present_over_time: "1 where the window has a sample",
  absent_over_time: "1 where nothing has a sample in the window",
  mad_over_time: "Median absolute deviation in the window",
  double_exponential_smoothing: "Smoothed value of a gauge",
};

export const FUNCTIONS = {
  abs: "Absolute value",
  absent: "1 where the selector finds nothing",
  ceil: "Round up",
  floor: "Round down",
  round: "Round to a multiple: round(v, 0.1)",
  clamp: "Keep between two bounds",
  clamp_min: "Keep above a bound",
  clamp_max: "Keep below a bound",
  exp: "e to the power of v",
  ln: "Natural logarithm",
  log2: "Binary logarithm",
  log10: "Decimal logarithm",
  sqrt: "Square root",
  sgn: "Sign: -1, 0 or 1",
  histogram_quantile: "φ-quantile from the buckets of a histogram: histogram_quantile(0.99, sum by (le) (rate(…_bucket[5m])))",
  histogram_avg: "Mean of a native histogram",
  histogram_count: "Count of a native histogram",
  histogram_sum: "Sum of a native histogram",
  histogram_fraction: "Share of observations between two bounds",
  histogram_stddev: "Standard deviation of a native histogram",
  histogram_stdvar: "Variance of a native histogram",
  label_replace: 'Set a label from another by a regular expression: label_replace(v, "dst", "$1", "src", "(.*)")',
  label_join: 'Set a label from several: label_join(v, "dst", "-", "a", "b")',
  scalar: "The value of the only series, as a number",
  vector: "A number as a series without labels",
  sort: "Series by value, ascending",
  sort_desc: "Series by value, descending",
  sort_by_label: "Series by a label",
  sort_by_label_desc: "Series by a label, descending",
  time: "The time of evaluation, in Unix seconds",
  timestamp: "The time of each sample, in Unix seconds",
  minute: "Minute of the hour, UTC",
  hour: "Hour of the day, UTC",
  day_of_week: "Day of the week, Sunday is 0, UTC",
  day_of_month: "Day of the month, UTC",
  day_of_year: "Day of the year, UTC",
  days_in_month: "Days of the month, UTC",
  month: "Month of the year, UTC",
  year: "Year, UTC",
  pi: "π",
  sin: "Sine", cos: "Cosine", tan: "Tangent", asin: "Arc sine", acos: "Arc cosine", atan: "Arc tangent",
  sinh: "Hyperbolic sine", cosh: "Hyperbolic cosine", tanh: "Hyperbolic tangent",
  asinh: "Inverse hyperbolic sine", acosh: "Inverse hyperbolic cosine", atanh: "Inverse hyperbolic tangent",
  deg: "Radians to degrees", rad: "Degrees to radians",
};

// Words that stand between operands.
export const OPERATORS = {
  and: "Series of the left that the right has too",
  or: "Series of the left, and those that only the right has",
  unless: "Series of the left that the right has not",
  offset: "Look back by a duration: offset 1h",
  atan2: "Arc tangent of two values",
};

// Words that a list of labels in parentheses follows.
export const GROUPINGS = {
  by: "Group by these labels",
  without: "Group by all labels but these",
  on: "Match series by these labels only",
  ignoring: "Match series by all labels but these",
  group_left: "Many on the left match one on the right",
  group_right: "One on the left matches many on the right",
};

export const isFunction = (word) => word in FUNCTIONS || word in RANGE_FUNCTIONS || word in AGGREGATIONS;
export const isKeyword = (word) => word in OPERATORS || word in GROUPINGS || word === "bool";
