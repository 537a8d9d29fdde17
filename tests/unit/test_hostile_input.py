"""Every case of hostile input that docs/data.md lists is tested."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES, DATABASES = "tests/unit/test_source_files.py", "tests/integration/test_source_databases.py"
LINES, TIMES, IDS = (f"tests/unit/test_{name}.py" for name in ("order_lines", "local_times", "identifiers"))
RETURNS, STOCK, MASTER = (f"tests/unit/test_{name}.py" for name in ("returns", "inventory", "product_master"))
CALENDARS, JOIN = "tests/unit/test_source_calendars.py", "tests/unit/test_join.py"
# The beginning of a case: the tests of it, each with its file.
TESTED = {
    "UTF-8 with a byte order mark": [(FILES, "test_other_ways_to_write_the_same_text_are_understood")],
    "Windows-1252": [
        (FILES, "test_other_encodings_are_refused_until_they_are_configured"),
        (FILES, "test_an_odd_letter_far_down_the_file_is_found_too"),
    ],
    "UTF-16 without": [(FILES, "test_a_text_that_is_not_the_table_is_refused")],
    "HTML, JSON": [(FILES, "test_a_text_that_is_not_the_table_is_refused")],
    "comma, semicolon": [(FILES, "test_other_ways_to_write_the_same_text_are_understood")],
    "no column that must": [(FILES, "test_a_text_that_is_not_the_table_is_refused")],
    "columns in another order": [
        (FILES, "test_columns_may_lie_in_another_order_in_each_file_and_one_that_lacks_a_column_is_named")
    ],
    "decimal comma": [(FILES, "test_numbers_with_a_decimal_comma_are_read")],
    "`1.234`": [(FILES, "test_a_number_that_may_be_a_thousand_times_another_is_refused_until_it_is_configured")],
    "decimal points and": [
        (FILES, "test_points_and_commas_that_contradict_each_other_are_refused_until_one_is_configured")
    ],
    "text, infinity": [(FILES, "test_what_is_no_number_is_set_aside_with_its_line")],
    "a column that turns": [
        (FILES, "test_a_column_that_turns_to_text_half_way_loses_no_row_before_and_none_in_silence"),
        (DATABASES, "test_a_column_of_sqlite_that_turns_to_text_is_set_aside_from_there_on"),
    ],
    "a date of another form": [(FILES, "test_what_is_no_iso_date_is_set_aside")],
    "times with and without": [(FILES, "test_times_with_and_without_a_zone_in_one_file_are_not_mixed_up")],
    "a quoted line end": [(FILES, "test_a_quoted_line_end_is_part_of_its_cell")],
    "a line with too many": [(FILES, "test_lines_with_another_number_of_fields_and_headers_again_are_set_aside")],
    "the header again": [(FILES, "test_lines_with_another_number_of_fields_and_headers_again_are_set_aside")],
    "a quote without end": [
        (FILES, "test_a_text_that_is_not_the_table_is_refused"),
        (FILES, "test_ids_that_a_spreadsheet_has_shortened_or_a_quote_has_swallowed_are_set_aside"),
    ],
    "a header alone": [(FILES, "test_a_header_alone_is_a_table_without_rows")],
    "an empty file": [(FILES, "test_an_empty_file_among_many_is_told_and_passed")],
    "a `.gz`": [
        (FILES, "test_a_compressed_file_that_is_cut_off_is_refused"),
        (FILES, "test_a_compressed_file_that_is_damaged_is_refused"),
    ],
    "Parquet or Excel that": [
        (FILES, "test_parquet_that_is_cut_off_is_refused"),
        (FILES, "test_parquet_that_is_damaged_inside_is_refused"),
        (FILES, "test_an_excel_file_that_is_cut_off_is_refused"),
        (FILES, "test_what_is_called_parquet_or_excel_and_is_not_is_refused"),
    ],
    "an Excel file with several": [(FILES, "test_a_sheet_is_asked_for_where_there_are_several")],
    "ids that are numbers": [
        (FILES, "test_ids_that_came_as_numbers_keep_their_digits_or_are_set_aside"),
        (FILES, "test_zeros_that_excel_shows_before_an_id_are_part_of_it"),
    ],
    "ids that a spreadsheet": [
        (FILES, "test_ids_that_a_spreadsheet_has_shortened_or_a_quote_has_swallowed_are_set_aside")
    ],
    "leading zeros": [(FILES, "test_ids_that_came_as_numbers_keep_their_digits_or_are_set_aside")],
    "numbers and dates that are texts": [(FILES, "test_excel_is_read_with_numbers_and_dates_that_are_texts")],
    "a file that is still": [(FILES, "test_a_file_that_is_still_being_written_is_refused")],
    "a pipe": [(FILES, "test_a_pipe_is_not_waited_for")],
    "`file:`": [
        (FILES, "test_other_addresses_are_refused"),
        (FILES, "test_no_shell_sees_a_location"),
    ],
    "a pattern that": [(FILES, "test_a_location_that_finds_nothing_or_something_else_is_refused")],
    "an environment variable": [(FILES, "test_variables_of_a_location_come_from_the_environment")],
    "a database that drops": [
        (DATABASES, "test_a_connection_that_postgresql_drops_gives_no_rows_at_all"),
        (DATABASES, "test_a_connection_that_mysql_drops_gives_no_rows_at_all"),
    ],
    "a table that changes": [(DATABASES, "test_rows_come_from_one_snapshot")],
    "a statement that takes": [(DATABASES, "test_a_statement_that_takes_too_long_is_ended")],
    "SQL in the name": [
        (DATABASES, "test_no_name_of_a_column_is_taken_for_sql"),
        (DATABASES, "test_nothing_behind_the_number_sign_can_write"),
        (DATABASES, "test_a_function_that_writes_is_refused_by_the_database"),
    ],
    "infinity, NaN": [(DATABASES, "test_what_postgresql_writes_and_no_date_or_number_is_set_aside")],
    "a password": [
        (DATABASES, "test_a_password_with_signs_comes_from_the_environment_and_is_never_shown"),
        ("tests/unit/test_source_config.py", "test_a_password_in_a_location_is_refused_and_never_repeated"),
    ],
    "a time at midnight": [
        (LINES, "test_a_line_counts_on_the_day_that_the_shops_clocks_show"),
        (TIMES, "test_an_hour_that_comes_twice_is_the_first_of_the_two_and_counted"),
        (TIMES, "test_a_time_that_the_clocks_skip_is_read_by_the_clocks_before_and_counted"),
    ],
    "times with summer's": [(TIMES, "test_datetime_objects_of_a_driver_may_have_several_offsets_and_none")],
    "a text that is no time": [(TIMES, "test_what_is_no_day_between_1970_and_2199_is_wrong")],
    "more units returned": [(RETURNS, "test_returns_beyond_what_was_sold_leave_0_units_and_are_counted_and_named")],
    "a return before any sale": [
        (RETURNS, "test_returns_beyond_what_was_sold_leave_0_units_and_are_counted_and_named"),
        (RETURNS, "test_returns_change_no_price"),
    ],
    "a line twice": [(LINES, "test_a_line_that_comes_again_is_counted_once_whatever_type_its_id_has")],
    "a line again": [(LINES, "test_of_two_versions_of_a_line_the_later_one_counts")],
    "the number of the line": [(LINES, "test_an_id_that_is_the_number_of_a_line_in_its_order_is_refused")],
    "`line_id` as numbers": [(LINES, "test_a_line_that_comes_again_is_counted_once_whatever_type_its_id_has")],
    "a price of 0": [(LINES, "test_a_line_that_cannot_be_a_sale_is_set_aside_with_its_line_and_cells")],
    "a price of 9,999,999": [
        (LINES, "test_a_price_a_hundredfold_off_the_products_usual_one_is_set_aside_with_its_line"),
        ("tests/unit/test_collect.py", "test_a_night_judges_the_price_of_a_weekly_seller_by_its_former_days"),
    ],
    "a sale of tomorrow": [
        (LINES, "test_a_line_of_a_day_to_come_is_set_aside_with_its_line"),
        (STOCK, "test_the_last_opening_that_can_be_known_is_tomorrows"),
        ("tests/unit/test_collect.py", "test_today_is_the_last_day_of_sales_and_tomorrow_that_of_stock"),
    ],
    "a product that really": [(LINES, "test_a_dear_product_is_not_set_aside_for_being_dear")],
    "an amount without tax": [
        (LINES, "test_prices_without_tax_get_that_of_their_line_or_of_the_products_tax_class"),
        (LINES, "test_a_tax_rate_in_percent_is_refused_and_says_how_it_is_written"),
    ],
    "a second currency": [
        (LINES, "test_several_currencies_without_a_setting_are_refused"),
        (LINES, "test_other_currencies_are_converted_and_unknown_ones_set_aside"),
    ],
    "ids with blanks": [
        (IDS, "test_ids_are_made_alike_by_the_rule"),
        (IDS, "test_ids_that_were_written_in_several_ways_are_listed"),
    ],
    "17, 17.0": [(IDS, "test_codes_stay_the_same_from_chunk_to_chunk")],
    "renamed products": [
        (IDS, "test_a_renamed_product_has_the_id_at_the_end_of_its_chain_and_is_counted"),
        (IDS, "test_renamed_products_in_a_circle_are_refused_naming_it"),
    ],
    'an "@"': [(IDS, "test_no_two_pairs_of_product_and_store_have_one_series_id")],
    "a count of stock": [(STOCK, "test_a_count_below_0_is_set_aside")],
    "movements that begin": [
        (STOCK, "test_movements_of_a_product_that_begins_in_the_middle_are_found_incomplete"),
        ("tests/unit/test_collect.py", "test_products_whose_movements_lack_their_beginning_are_named"),
    ],
    "two rows of one product": [
        (MASTER, "test_of_several_rows_of_a_day_the_last_one_holds"),
        (MASTER, "test_where_times_overlap_the_newer_row_holds_and_it_is_counted"),
        (MASTER, "test_a_cost_that_has_ended_is_unknown_and_the_gap_is_counted"),
    ],
    "a promotion without": [(CALENDARS, "test_a_promotion_without_usable_days_is_set_aside")],
    "finished rows twice": [
        (JOIN, "test_finished_rows_that_break_the_contract_are_set_aside_and_the_last_of_a_day_holds")
    ],
}


def cases() -> list[str]:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").partition("## Hostile input")[2]
    table = text[text.index("| case |") :].partition("\n\n")[0]
    return [re.split(r" \| ", row.removeprefix("| "))[0] for row in table.splitlines()[2:]]


def test_every_case_of_the_table_has_a_test() -> None:
    without = [case for case in cases() if not any(case.startswith(beginning) for beginning in TESTED)]
    gone = [beginning for beginning in TESTED if not any(case.startswith(beginning) for case in cases())]

    assert without == []
    assert gone == []


def test_every_test_that_is_named_is_there() -> None:
    named = {each for tests in TESTED.values() for each in tests}
    there = {
        (path, node.name)
        for path in {path for path, _ in named}
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }

    assert named - there == set()
