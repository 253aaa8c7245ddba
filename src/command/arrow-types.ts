/**
 * Arrow's logical types as texts, the way Arrow's own libraries print them, and how many children each takes. The table is
 * closed: a type that is not here would mean something else to each reader.
 */
const UNIT = "(?:s|ms|us|ns)";
const PLAIN = [
  "null",
  "bool",
  "u?int(?:8|16|32|64)",
  "float(?:16|32|64)",
  "float",
  "double",
  "halffloat",
  "(?:large_)?(?:utf8|string|binary)",
  "(?:utf8|string|binary)_view",
  "fixed_size_binary\\[[1-9][0-9]{0,8}\\]",
  "date32(?:\\[day\\])?",
  "date64(?:\\[ms\\])?",
  "time32\\[(?:s|ms)\\]",
  "time64\\[(?:us|ns)\\]",
  `timestamp\\[${UNIT}(?:, ?tz=[A-Za-z0-9_+:/-]{1,64})?\\]`,
  `duration\\[${UNIT}\\]`,
  "(?:month|day_time|month_day_nano)_interval",
  "decimal(?:32|64|128|256)\\([1-9][0-9]?, ?-?[0-9]{1,2}\\)",
  "dictionary",
];
const ONE_CHILD = ["list", "large_list", "list_view", "large_list_view", "fixed_size_list\\[[1-9][0-9]{0,8}\\]"];
const TWO_CHILDREN = ["map", "run_end_encoded"];
const SOME_CHILDREN = ["struct", "sparse_union", "dense_union"];

const whole = (types: readonly string[]): RegExp => new RegExp(`^(?:${types.join("|")})$`);

const TABLE: readonly (readonly [RegExp, min: number, max: number])[] = [
  [whole(PLAIN), 0, 0],
  [whole(ONE_CHILD), 1, 1],
  [whole(TWO_CHILDREN), 2, 2],
  [whole(SOME_CHILDREN), 1, Number.POSITIVE_INFINITY],
];

/** How many children a type takes; undefined for a text that is no type. */
export function childrenOf(type: string): { readonly min: number; readonly max: number } | undefined {
  if (type.length > 128) return undefined;
  const row = TABLE.find(([pattern]) => pattern.test(type));
  return row === undefined ? undefined : { min: row[1], max: row[2] };
}
