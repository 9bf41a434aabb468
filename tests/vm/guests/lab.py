"""Which of the lab's own tests a guest runs on its veth: a part of every area.

All of the lab takes an hour under emulation: `tests/vm/run 7.2 veth tests/lab`.  Left out here is
what says the same again, measures speed, or sends at full rate for its sake.  Older kernels run
what their fallbacks bear upon (program, rings, modes, memory, netlink, the ledger); what concerns
files, pipes and options alone is the same code on every kernel, and runs on the newest.
"""

from __future__ import annotations

NEWEST = "7.2"

EVERY_KERNEL = {
    "program": (
        "test_a_queue_without_a_socket_passes_its_packets_unchanged",
        "test_a_queue_with_a_socket_redirects_its_packets_with_a_header_before_them",
        "test_releasing_a_queue_gives_its_packets_back_to_the_kernel",
    ),
    "xsk": (
        "test_each_packet_arrives_on_the_queue_it_was_sent_to_and_on_no_other",
        "test_packets_that_find_no_frame_count_as_dropped_for_an_empty_fill_ring",
        "test_packets_that_find_the_rx_ring_full_count_there",
        "test_a_queue_that_is_bound_already_is_busy_and_the_error_asks_who_uses_it",
        "test_what_the_device_lacks_is_said_with_its_name",
        "test_a_queue_can_be_bound_again_at_once",
        "test_a_program_that_is_attached_already_is_named_and_left_alone",
    ),
    "ledger": (
        "test_a_tiny_ring_under_a_generic_program_counts_every_packet_too",
        "test_without_multi_buffer_a_packet_longer_than_a_frame_is_lost_and_counted",
    ),
    "net_lab": (
        "test_a_veth_is_described_as_the_kernel_knows_it",
        "test_an_attached_program_is_seen_with_its_mode",
        "test_a_driver_without_channels_counts_the_queues_the_kernel_set_aside",
    ),
    "offloads": ("test_fixes_mend_everything_and_put_back_everything",),
    "record_command": (
        "test_what_was_sent_is_in_the_file_byte_for_byte_and_the_ledger_balances",
        "test_each_queue_has_its_own_file_with_its_own_packets",
        "test_the_program_of_a_killed_recording_is_gone_and_the_next_one_starts",
    ),
    "record_faults": ("test_kill_leaves_no_program_and_files_readable_up_to_the_last_flush",),
    "record_limits": (
        "test_a_recording_of_so_many_packets_ends_by_itself_with_exactly_these[rules0]",
    ),
    "record_links": ("test_an_interface_that_goes_down_ends_the_recording_with_whole_files",),
    "record_rotation": ("test_each_file_has_exactly_as_many_packets_as_asked[20-expected1]",),
    "record_safety": (
        "test_promiscuous_mode_is_on_while_recording_and_off_afterwards[2]",
        "test_another_program_is_named_and_stays_where_it_is",
        "test_packets_of_queues_that_are_not_recorded_are_passed_and_counted",
        "test_zero_copy_that_a_driver_can_not_do_is_an_error_when_it_is_required",
    ),
    "record_builds": ("test_packets_without_metadata_are_stamped_by_the_worker",),
    "replay": (
        "test_all_kinds_of_frames_arrive_as_tcpdump_sees_them_too",
        "test_several_files_standard_input_and_gzip_are_one_row_of_packets",
        "test_verify_finds_nothing_missing_and_says_so",
        "test_a_killed_replay_leaves_nothing_and_the_next_one_starts_at_once",
        "test_an_interface_that_is_not_there_or_down_is_one_line",
    ),
    "bench_rings": ("test_every_packet_that_was_taken_is_counted_and_the_program_goes",),
    # What each build of the program does more, and its verifier takes.
    "record_filter": (
        "test_only_what_matches_is_recorded_and_the_rest_is_counted[given0]",
        "test_what_does_not_match_goes_to_the_stack_untouched_or_nowhere",
    ),
    "record_mirror": ("test_every_packet_is_in_the_file_and_reaches_the_host",),
    "record_metadata": ("test_each_packet_has_the_programs_hash_unless_told_otherwise",),
    "dead_man": ("test_packets_pass_a_stopped_recorder_by_and_are_recorded_when_it_goes_on",),
    "stats_command": ("test_another_process_reads_what_the_program_counts_to_the_packet",),
    "dump_live": ("test_every_packet_is_a_line_and_stays_with_the_host",),
}

# As well, on the newest.
NEWEST_KERNEL = {
    "program": (
        "test_a_queue_beyond_the_maps_passes_and_counts_nowhere",
        "test_the_length_of_a_packet_of_several_buffers_counts_all_of_them",
    ),
    "xsk": (
        "test_packets_of_several_frames_arrive_whole_between_short_ones",
        "test_frames_sent_without_an_skb_arrive_byte_for_byte_in_order",
    ),
    "ledger": (
        "test_packets_of_several_frames_are_counted_as_packets",
        "test_the_packets_of_a_pcapng_file_tell_how_many_were_lost_in_all",
        "test_a_full_memory_file_system_keeps_whole_records_and_counts_the_rest",
        "test_what_comes_after_the_last_packet_wanted_is_counted_beyond_the_limit",
    ),
    "dispatcher": ("test_without_a_dispatcher_nothing_is_joined",),
    "record_bad_input": (
        "test_an_interface_that_is_down_is_told_how_to_come_up",
        "test_every_missing_privilege_is_named_with_the_way_to_get_it",
        "test_a_native_program_that_the_mtu_forbids_is_told",
    ),
    "record_faults": (
        "test_sighup_goes_on_in_new_files",
        "test_the_start_after_a_kill_tells_of_the_unfinished_file_and_leaves_it_alone",
    ),
    "record_flush": ("test_how_the_file_is_written_depends_on_where_it_is",),
    "record_frames": ("test_a_snapshot_is_cut_and_tells_the_length_on_the_wire",),
    "record_interfaces": (
        "test_each_of_two_interfaces_has_its_own_files",
        "test_an_interface_in_another_namespace_is_recorded_from_here",
    ),
    "record_limits": ("test_only_the_newest_files_are_kept_and_reported",),
    "record_links": ("test_recording_goes_on_when_the_interface_is_made_again",),
    "record_losses": ("test_the_packet_after_a_loss_tells_how_many_were_lost_before_it",),
    "record_offloads": ("test_offloads_that_were_turned_off_are_on_again_however_it_ends",),
    "record_pcapng": ("test_capinfos_and_tshark_read_the_same",),
    "record_pipe": (
        "test_tcpdump_reads_every_packet_from_the_pipe",
        "test_a_reader_that_goes_away_ends_the_recording_and_every_packet_is_counted",
    ),
    "record_post_rotate": ("test_each_complete_file_is_handed_over_once_in_order_and_whole",),
    "record_rotation": (
        "test_no_file_is_larger_than_asked_and_all_packets_are_in_order_over_them",
        "test_sighup_begins_a_new_file_on_every_queue_with_or_without_packets",
    ),
    "record_safety": (
        "test_the_interface_of_the_default_route_is_refused_unless_forced",
        "test_root_is_given_up_for_good_once_everything_is_set_up",
        "test_the_mode_that_is_asked_for_is_the_one_that_is_had",
    ),
    "record_builds": ("test_what_an_older_kernel_records_is_the_same",),
    "replay": (
        "test_packets_of_several_frames_arrive_whole",
        "test_several_queues_keep_each_flow_in_order",
        "test_the_link_going_down_ends_it_with_what_was_sent",
        "test_both_halves_of_a_conversation_leave_on_their_own_side",
    ),
    "replay_both_ways": ("test_each_end_records_one_queue_and_sends_from_the_other",),
    "replay_pressure": ("test_a_receiver_that_is_slower_than_the_sender_loses_nothing",),
    "bench_rings": ("test_forwarding_loses_no_frame_of_its_memory",),
    "record_metadata": (
        "test_a_tag_that_lay_beside_the_packet_is_back_in_its_place[802.1q-pcapng]",
        "test_the_drivers_hash_is_there_for_packets_that_have_an_skb",
    ),
    "xdp_hook": (
        "test_what_a_program_gets_is_recorded_and_the_program_stays",
        "test_what_the_program_made_of_each_packet_is_told_where_it_has_decided",
    ),
    "custom_programs": ("test_a_program_with_our_header_is_counted_and_stamped_as_ours_is",),
}


def lab_tests(kernel: str) -> list[str]:
    """What pytest is to run of the lab on this kernel."""
    areas = [EVERY_KERNEL, *([NEWEST_KERNEL] if kernel == NEWEST else [])]
    return [
        f"tests/lab/test_{area}.py::{name}"
        for tests in areas
        for area, names in tests.items()
        for name in names
    ]
