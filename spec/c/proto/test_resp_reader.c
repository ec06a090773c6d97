/* SPDX-License-Identifier: MIT */
/*
 * The reply reader: each reply type, every split at every byte, what a hostile server can send (faults.md B8), memory that
 * follows what arrived, every failing allocation, boxes that outlive their reader.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/limits.h"
#include "failing_allocator.h"
#include "proto/resp.h"

#define BYTES(literal) literal, sizeof(literal) - 1

/* A reply as text, to compare trees. */
static void show(const tide_reply *reply, tide_buffer *out) {
    switch (reply->type) {
    case TIDE_REPLY_NIL: tide_buffer_append(out, "nil", 3); break;
    case TIDE_REPLY_INTEGER: tide_buffer_append_i64(out, reply->as.integer); break;
    case TIDE_REPLY_STRING:
    case TIDE_REPLY_STATUS:
    case TIDE_REPLY_ERROR:
    case TIDE_REPLY_DOUBLE:
        tide_buffer_append(out,
                           reply->type == TIDE_REPLY_STRING   ? "'"
                           : reply->type == TIDE_REPLY_STATUS ? "+"
                                                              : "-",
                           1);
        tide_buffer_append_str(out, reply->as.text);
        assert_int_equal(reply->as.text.data[reply->as.text.len], '\0');
        break;
    case TIDE_REPLY_BOOL:
        tide_buffer_append(out, reply->as.integer ? "yes" : "no", reply->as.integer ? 3 : 2);
        break;
    case TIDE_REPLY_ARRAY:
    case TIDE_REPLY_MAP:
        tide_buffer_append(out, "[", 1);
        for (size_t i = 0; i < reply->as.array.count; i++) {
            if (i > 0)
                tide_buffer_append(out, " ", 1);
            show(&reply->as.array.items[i], out);
        }
        tide_buffer_append(out, "]", 1);
        break;
    }
}

typedef struct fixture {
    tide_allocator alloc;
    tide_resp_reader *reader;
    tide_buffer shown;
    size_t bytes; /* of all replies */
} fixture;

static void open_fixture(fixture *f, size_t bulk_max) {
    f->alloc = tide_allocator_default();
    f->bytes = 0;
    assert_int_equal(tide_resp_reader_open(&f->reader, &f->alloc, bulk_max), TIDE_OK);
    tide_buffer_init(&f->shown, &f->alloc, 1 << 26);
}

static void close_fixture(fixture *f) {
    tide_resp_reader_close(f->reader);
    tide_buffer_deinit(&f->shown);
}

/* Feeds and shows everything whole, each followed by ';'. Answers how it ended: TIDE_AGAIN or the failure. */
static tide_status feed_and_show(fixture *f, const char *bytes, size_t size, tide_error *error) {
    tide_status status = tide_resp_reader_feed(f->reader, bytes, size);
    if (status != TIDE_OK)
        return status;
    for (;;) {
        tide_reply_box *box = NULL;
        status = tide_resp_reader_next(f->reader, &box, error);
        if (status != TIDE_OK)
            return status;
        show(&box->reply, &f->shown);
        tide_buffer_append(&f->shown, ";", 1);
        f->bytes += box->bytes;
        tide_reply_box_release(box);
    }
}

static void assert_shown(const fixture *f, const char *expected) {
    char *text = malloc(tide_buffer_size(&f->shown) + 1);
    memcpy(text, tide_buffer_data(&f->shown), tide_buffer_size(&f->shown));
    text[tide_buffer_size(&f->shown)] = '\0';
    assert_string_equal(text, expected);
    free(text);
}

static const char conversation[] =
    "+OK\r\n"
    ":-9223372036854775808\r\n"
    "$5\r\na\r\n\0b\r\n"
    "$0\r\n\r\n"
    "$-1\r\n"
    "*-1\r\n"
    "*0\r\n"
    "-WRONGTYPE no\r\n"
    "*1\r\n*2\r\n$6\r\norders\r\n*2\r\n*2\r\n$3\r\n1-1\r\n*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$"
    "2\r\n22\r\n*2\r\n$3\r\n1-2\r\n*-1\r\n"
    "*3\r\n:1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*0\r\n:2\r\n";
static const size_t conversation_size = sizeof conversation - 1;

static void fill_expected(tide_buffer *out) {
    static const char text[] =
        "+OK;-9223372036854775808;'a\r\n\0b;';nil;nil;[];-WRONGTYPE no;"
        "[['orders [['1-1 ['a '1 'b '22]] ['1-2 nil]]]];[1 [[[[[[[]]]]]] ] 2];";
    /* The blank before "] 2" is only there to keep the literal readable. */
    for (const char *at = text; at < text + sizeof text - 1; at++) {
        if (at[0] == ' ' && at[1] == ']')
            continue;
        tide_buffer_append(out, at, 1);
    }
}

static void assert_conversation(const fixture *f) {
    tide_buffer expected;
    tide_buffer_init(&expected, &f->alloc, 1 << 20);
    fill_expected(&expected);
    assert_int_equal(tide_buffer_size(&f->shown), tide_buffer_size(&expected));
    assert_memory_equal(tide_buffer_data(&f->shown), tide_buffer_data(&expected),
                        tide_buffer_size(&expected));
    assert_int_equal(f->bytes, conversation_size);
    assert_true(tide_resp_reader_is_empty(f->reader));
    tide_buffer_deinit(&expected);
}

static void reads_every_type(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, 0);
    assert_true(tide_resp_reader_is_empty(f.reader));
    assert_int_equal(feed_and_show(&f, conversation, conversation_size, NULL), TIDE_AGAIN);
    assert_conversation(&f);
    close_fixture(&f);
}

static void reads_any_split_in_two(void **state) {
    (void)state;
    for (size_t cut = 0; cut <= conversation_size; cut++) {
        fixture f;
        open_fixture(&f, 0);
        /* Copies of exactly the size, so that a sanitizer sees a read beyond. */
        char *first = malloc(cut + 1), *second = malloc(conversation_size - cut + 1);
        memcpy(first, conversation, cut);
        memcpy(second, conversation + cut, conversation_size - cut);
        assert_int_equal(feed_and_show(&f, first, cut, NULL), TIDE_AGAIN);
        memset(first, 'x', cut);
        assert_int_equal(feed_and_show(&f, second, conversation_size - cut, NULL), TIDE_AGAIN);
        assert_conversation(&f);
        free(first);
        free(second);
        close_fixture(&f);
    }
}

static void reads_byte_by_byte(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, 0);
    for (size_t i = 0; i < conversation_size; i++) {
        char byte = conversation[i];
        assert_int_equal(feed_and_show(&f, &byte, 1, NULL), TIDE_AGAIN);
    }
    assert_conversation(&f);
    close_fixture(&f);
}

static void says_when_it_is_in_the_middle(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, 0);
    assert_int_equal(feed_and_show(&f, BYTES("*2\r\n:1\r\n"), NULL), TIDE_AGAIN);
    assert_false(tide_resp_reader_is_empty(f.reader));
    assert_int_equal(feed_and_show(&f, BYTES(":2\r\n"), NULL), TIDE_AGAIN);
    assert_true(tide_resp_reader_is_empty(f.reader));
    assert_shown(&f, "[1 2];");
    close_fixture(&f);
}

/* An array of n integers, and one of n arrays of two. */
static void reads_arrays_of_any_size(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 2, 1023, 1024, 1025, 2047, 2048, 2049, 4096, 5000, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        fixture f;
        open_fixture(&f, 0);
        tide_buffer wire;
        tide_buffer_init(&wire, &f.alloc, 1 << 26);
        tide_buffer_append_format(&wire, "*%zu\r\n", sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            tide_buffer_append_format(&wire, "*2\r\n:%zu\r\n$3\r\nabc\r\n", k);
        assert_int_equal(
            tide_resp_reader_feed(f.reader, tide_buffer_data(&wire), tide_buffer_size(&wire)),
            TIDE_OK);
        tide_reply_box *box = NULL;
        assert_int_equal(tide_resp_reader_next(f.reader, &box, NULL), TIDE_OK);
        assert_int_equal(box->bytes, tide_buffer_size(&wire));
        assert_int_equal(box->reply.as.array.count, sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++) {
            const tide_reply *pair = &box->reply.as.array.items[k];
            assert_int_equal(pair->type, TIDE_REPLY_ARRAY);
            assert_int_equal(pair->as.array.count, 2);
            assert_int_equal(pair->as.array.items[0].as.integer, k);
            assert_memory_equal(pair->as.array.items[1].as.text.data, "abc", 4);
        }
        tide_reply_box_release(box);
        assert_int_equal(tide_resp_reader_next(f.reader, &box, NULL), TIDE_AGAIN);
        tide_buffer_deinit(&wire);
        close_fixture(&f);
    }
}

static void reads_a_large_bulk(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, 0);
    size_t size = 3 << 20;
    char *wire = malloc(size + 64);
    int head = snprintf(wire, 64, "$%zu\r\n", size);
    for (size_t i = 0; i < size; i++)
        wire[(size_t)head + i] = (char)(i * 7);
    memcpy(wire + head + size, "\r\n", 2);
    assert_int_equal(tide_resp_reader_feed(f.reader, wire, (size_t)head + size + 2), TIDE_OK);
    tide_reply_box *box = NULL;
    assert_int_equal(tide_resp_reader_next(f.reader, &box, NULL), TIDE_OK);
    assert_int_equal(box->reply.as.text.len, size);
    assert_memory_equal(box->reply.as.text.data, wire + head, size);
    tide_reply_box_release(box);
    assert_int_equal(tide_resp_reader_next(f.reader, &box, NULL), TIDE_AGAIN);
    free(wire);
    close_fixture(&f);
}

/* ---- what a server may send by mistake or malice ---- */

/* Whole, and in pieces: the same end, and it is sticky. `part` is to be in the message. */
static void assert_refused_in_pieces(const char *bytes, size_t size, size_t piece,
                                     tide_status status, const char *part) {
    for (int cut = 0; cut < 2; cut++) {
        fixture f;
        open_fixture(&f, 1 << 20);
        tide_error error = {.status = TIDE_OK};
        tide_status ended = TIDE_AGAIN;
        size_t step = cut ? piece : size;
        for (size_t at = 0; at < size && ended == TIDE_AGAIN; at += step)
            ended = feed_and_show(&f, bytes + at, size - at < step ? size - at : step, &error);
        if (ended != status || strstr(error.message, part) == NULL)
            print_error("%.40s: %s: %s\n", bytes, tide_status_code(ended), error.message);
        assert_int_equal(ended, status);
        assert_int_equal(error.status, status);
        assert_non_null(strstr(error.message, part));
        tide_reply_box *box = NULL;
        assert_int_equal(tide_resp_reader_next(f.reader, &box, NULL), status);
        assert_int_equal(tide_resp_reader_feed(f.reader, "+OK\r\n", 5), status);
        close_fixture(&f);
    }
}

static void assert_refused(const char *bytes, size_t size, tide_status status, const char *part) {
    assert_refused_in_pieces(bytes, size, 1, status, part);
}

/* Grows to a line or an array that no server sends. */
static void assert_refused_repeated(const char *head, const char *piece, size_t times,
                                    tide_status status, const char *part) {
    size_t head_size = strlen(head), piece_size = strlen(piece);
    char *bytes = malloc(head_size + piece_size * times);
    memcpy(bytes, head, head_size);
    for (size_t i = 0; i < times; i++)
        memcpy(bytes + head_size + i * piece_size, piece, piece_size);
    assert_refused_in_pieces(bytes, head_size + piece_size * times, 61, status, part);
    free(bytes);
}

static void refuses_claimed_lengths(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, 0);
    tide_error error;
    /* Beyond an int: hiredis 0.14 refuses it, from 1.0 on our bound does. */
    tide_status status = feed_and_show(&f, BYTES("*4294967295\r\n"), &error);
    assert_true(status == TIDE_PROTOCOL || status == TIDE_LIMIT);
    close_fixture(&f);
    assert_refused(BYTES("*1048577\r\n"), TIDE_LIMIT, "elements");
    assert_refused(BYTES("*2147483647\r\n"), TIDE_LIMIT, "elements");
    assert_refused(BYTES("*-2\r\n"), TIDE_PROTOCOL, "");
    assert_refused(BYTES("*x\r\n"), TIDE_PROTOCOL, "");
    assert_refused(BYTES("*\r\n"), TIDE_PROTOCOL, "");
    assert_refused(BYTES("$-2\r\n"), TIDE_PROTOCOL, "");
    assert_refused(BYTES("$1048577\r\n"), TIDE_LIMIT, "longer");
    assert_refused(BYTES("$9223372036854775807\r\n"), TIDE_LIMIT, "longer");
    assert_refused(BYTES("$9223372036854775808\r\n"), TIDE_PROTOCOL, "");
    assert_refused(BYTES("$x\r\n"), TIDE_PROTOCOL, "");
    assert_refused(BYTES("*2\r\n:1\r\n$1048577\r\n"), TIDE_LIMIT, "longer");
}

static void refuses_missing_line_ends(void **state) {
    (void)state;
    assert_refused(BYTES("$3\r\nabcXY"), TIDE_PROTOCOL, "CR LF");
    assert_refused(BYTES("$3\r\nabcd\r\n"), TIDE_PROTOCOL, "CR LF");
    assert_refused(BYTES("*1\r\n$3\r\nabc\n\n"), TIDE_PROTOCOL, "CR LF");
    assert_refused_repeated("+", "x", 70 * 1024, TIDE_LIMIT, "line");
    assert_refused_repeated("-", "x", 70 * 1024, TIDE_LIMIT, "line");
    assert_refused_repeated(":", "1", 70 * 1024, TIDE_LIMIT, "line");
    assert_refused_repeated("*", "1", 70 * 1024, TIDE_LIMIT, "line");
    assert_refused_repeated("$", "1", 70 * 1024, TIDE_LIMIT, "line");
}

static void refuses_bad_numbers(void **state) {
    (void)state;
    assert_refused(BYTES(":\r\n"), TIDE_PROTOCOL, "");
    assert_refused(BYTES(":12a\r\n"), TIDE_PROTOCOL, "");
    assert_refused(BYTES(":9223372036854775808\r\n"), TIDE_PROTOCOL, "");
}

static void refuses_deep_nesting(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, 0);
    char bytes[4 * 1025];
    for (size_t i = 0; i < 1025; i++)
        memcpy(bytes + 4 * i, "*1\r\n", 4);
    /* hiredis 0.14 counts by itself, from 1.0 on we do. */
    tide_status status = feed_and_show(&f, bytes, sizeof bytes, NULL);
    assert_true(status == TIDE_PROTOCOL || status == TIDE_LIMIT);
    close_fixture(&f);
}

static void refuses_what_nobody_asked_for(void **state) {
    (void)state;
    assert_refused(BYTES(">2\r\n$7\r\nmessage\r\n$1\r\nx\r\n"), TIDE_PROTOCOL, "");
    assert_refused(BYTES("\r\n"), TIDE_PROTOCOL, "");
    assert_refused(BYTES("\0\0\0\0"), TIDE_PROTOCOL, "");
    assert_refused(BYTES("+OK\r\n?"), TIDE_PROTOCOL, "");
}

static void names_strangers(void **state) {
    (void)state;
    fixture f;
    tide_error error;
    static const struct {
        const char *bytes;
        size_t size;
        const char *part;
    } cases[] = {
        {BYTES("HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n"), "HTTP"},
        {BYTES("\x15\x03\x01\x00\x02\x02\x46"), "TLS"},
        {BYTES("SSH-2.0-OpenSSH_9.2p1\r\n"), "SSH"},
        {BYTES("INFO {\"server_id\":\"N\"}\r\n"), "NATS"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_fixture(&f, 0);
        assert_int_equal(feed_and_show(&f, cases[i].bytes, cases[i].size, &error), TIDE_PROTOCOL);
        assert_non_null(strstr(error.message, cases[i].part));
        close_fixture(&f);
    }
}

static void gives_what_came_before_the_nonsense(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, 0);
    assert_int_equal(feed_and_show(&f, BYTES("+OK\r\n:7\r\nrubbish\r\n"), NULL), TIDE_PROTOCOL);
    assert_shown(&f, "+OK;7;");
    close_fixture(&f);
}

/* hiredis 0.14 refuses RESP3, from 1.0 on it is read: either way nothing else happens. */
static void reads_resp3_where_hiredis_does(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *shown;
    } cases[] = {
        {"%1\r\n+a\r\n:1\r\n", "[+a 1];"},
        {"~2\r\n:1\r\n:2\r\n", "[1 2];"},
        {"#t\r\n", "yes;"},
        {"#f\r\n", "no;"},
        {",1.5\r\n", "-1.5;"},
        {"_\r\n", "nil;"},
        {"=7\r\ntxt:abc\r\n", "'abc;"},
        {"(12345678901234567890\r\n", "'12345678901234567890;"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f;
        open_fixture(&f, 0);
        tide_status status = feed_and_show(&f, cases[i].bytes, strlen(cases[i].bytes), NULL);
        if (status == TIDE_AGAIN)
            assert_shown(&f, cases[i].shown);
        else
            assert_int_equal(status, TIDE_PROTOCOL);
        close_fixture(&f);
    }
}

/* ---- memory ---- */

static void takes_memory_for_what_arrived_only(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_resp_reader *reader;
    assert_int_equal(tide_resp_reader_open(&reader, &alloc, 0), TIDE_OK);
    /* Seven nested claims of a million elements, and a claim of half a GiB. */
    static const char claims[] = "*1048576\r\n*1048576\r\n*1048576\r\n*1048576\r\n*1048576\r\n*"
                                 "1048576\r\n*1048576\r\n$536870912\r\nx";
    assert_int_equal(tide_resp_reader_feed(reader, claims, sizeof claims - 1), TIDE_OK);
    tide_reply_box *box;
    assert_int_equal(tide_resp_reader_next(reader, &box, NULL), TIDE_AGAIN);
    assert_in_range(memory.peak_bytes, 0, 512 * 1024);
    tide_resp_reader_close(reader);
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
}

static void recycles_boxes(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_resp_reader *reader;
    assert_int_equal(tide_resp_reader_open(&reader, &alloc, 0), TIDE_OK);
    char *wire = malloc(1 << 20);
    size_t size = (size_t)sprintf(wire, "*2000\r\n");
    for (int i = 0; i < 2000; i++)
        size += (size_t)sprintf(wire + size,
                                "*2\r\n$15\r\n1700000000000-0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    uint64_t asked = 0;
    for (int round = 0; round < 10; round++) {
        assert_int_equal(tide_resp_reader_feed(reader, wire, size), TIDE_OK);
        tide_reply_box *box;
        assert_int_equal(tide_resp_reader_next(reader, &box, NULL), TIDE_OK);
        assert_int_equal(box->bytes, size);
        tide_reply_box_release(box);
        assert_int_equal(tide_resp_reader_next(reader, &box, NULL), TIDE_AGAIN);
        /* From the third on a large reply costs no allocation. */
        if (round == 2)
            asked = memory.asked;
        if (round > 2)
            assert_int_equal(memory.asked, asked);
    }
    size_t large = failing_allocator_live_bytes(&memory);
    for (int round = 0; round < 10000; round++) {
        tide_reply_box *box;
        assert_int_equal(tide_resp_reader_feed(reader, "+OK\r\n", 5), TIDE_OK);
        assert_int_equal(tide_resp_reader_next(reader, &box, NULL), TIDE_OK);
        tide_reply_box_release(box);
        assert_int_equal(tide_resp_reader_next(reader, &box, NULL), TIDE_AGAIN);
    }
    /* And small ones for long enough give the memory back. */
    assert_in_range(failing_allocator_live_bytes(&memory), 0, large / 16);
    tide_resp_reader_close(reader);
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
    free(wire);
}

static void boxes_outlive_their_reader(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_resp_reader *reader;
    assert_int_equal(tide_resp_reader_open(&reader, &alloc, 0), TIDE_OK);
    tide_reply_box *boxes[20];
    for (size_t i = 0; i < 20; i++) {
        char wire[16];
        int size = snprintf(wire, sizeof wire, "$2\r\n%02zu\r\n", i);
        tide_reply_box *none;
        assert_int_equal(tide_resp_reader_feed(reader, wire, (size_t)size), TIDE_OK);
        assert_int_equal(tide_resp_reader_next(reader, &boxes[i], NULL), TIDE_OK);
        assert_int_equal(tide_resp_reader_next(reader, &none, NULL), TIDE_AGAIN);
    }
    for (size_t i = 0; i < 10; i++)
        tide_reply_box_release(boxes[i]);
    tide_resp_reader_close(reader);
    for (size_t i = 10; i < 20; i++) {
        char expected[4];
        snprintf(expected, sizeof expected, "%02zu", i);
        assert_string_equal(boxes[i]->reply.as.text.data, expected);
        assert_non_null(tide_arena_alloc(&boxes[i]->arena, 100));
        tide_reply_box_release(boxes[i]);
    }
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
    tide_reply_box_release(NULL);
    tide_resp_reader_close(NULL);
}

static bool read_all(const tide_allocator *alloc) {
    tide_resp_reader *reader;
    if (tide_resp_reader_open(&reader, alloc, 0) != TIDE_OK)
        return false;
    tide_buffer wire;
    tide_allocator plain = tide_allocator_default();
    tide_buffer_init(&wire, &plain, 1 << 24);
    tide_buffer_append(&wire, conversation, conversation_size);
    tide_buffer_append_format(&wire, "*5000\r\n");
    for (int i = 0; i < 5000; i++)
        tide_buffer_append_format(&wire, "*2\r\n$3\r\nabc\r\n:%d\r\n", i);
    tide_reply_box *box = NULL;
    tide_error error;
    tide_status status =
        tide_resp_reader_feed(reader, tide_buffer_data(&wire), tide_buffer_size(&wire));
    size_t count = 0;
    while (status == TIDE_OK && (status = tide_resp_reader_next(reader, &box, &error)) == TIDE_OK) {
        tide_reply_box_release(box);
        count++;
    }
    bool whole = status == TIDE_AGAIN;
    if (whole)
        assert_int_equal(count, 11);
    else
        assert_int_equal(status, TIDE_ENOMEM);
    tide_resp_reader_close(reader);
    tide_buffer_deinit(&wire);
    return whole;
}

static void survives_every_failed_allocation(void **state) {
    (void)state;
    for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
        for (uint64_t n = 1;; n++) {
            failing_allocator memory;
            tide_allocator alloc = failing_allocator_init(&memory, n, from_then_on);
            bool whole = read_all(&alloc);
            assert_int_equal(whole, memory.failed == 0);
            assert_int_equal(failing_allocator_live_bytes(&memory), 0);
            if (memory.failed == 0)
                break;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_type),
        cmocka_unit_test(reads_any_split_in_two),
        cmocka_unit_test(reads_byte_by_byte),
        cmocka_unit_test(says_when_it_is_in_the_middle),
        cmocka_unit_test(reads_arrays_of_any_size),
        cmocka_unit_test(reads_a_large_bulk),
        cmocka_unit_test(refuses_claimed_lengths),
        cmocka_unit_test(refuses_missing_line_ends),
        cmocka_unit_test(refuses_bad_numbers),
        cmocka_unit_test(refuses_deep_nesting),
        cmocka_unit_test(refuses_what_nobody_asked_for),
        cmocka_unit_test(names_strangers),
        cmocka_unit_test(gives_what_came_before_the_nonsense),
        cmocka_unit_test(reads_resp3_where_hiredis_does),
        cmocka_unit_test(takes_memory_for_what_arrived_only),
        cmocka_unit_test(recycles_boxes),
        cmocka_unit_test(boxes_outlive_their_reader),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
