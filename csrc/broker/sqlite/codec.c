/* SPDX-License-Identifier: MIT */
/*
 * What it is: an entry's fields as one blob: a count, then name and value of each, lengths as base-128 numbers. Names
 * that events use every time are one byte.
 * What it is not: a parser of trusted bytes: a blob may come from a damaged file.
 * Invariants: unpacking never reads beyond the blob; packing writes exactly what tide__sq_packed_size says, or with an open
 * end that much plus what tide__sq_pack_version returns.
 *
 *   blob  := count field*
 *   field := name value
 *   name  := (length << 1) bytes | (code << 1 | 1)
 *   value := length bytes
 */
#include "broker/sqlite/internal.h"

/* The codes are a part of the file format: append only. */
static const tide_str known_names[] = {
#define NAME(text)                                                                                 \
    { text, sizeof(text) - 1 }
    NAME("event_id"),
    NAME("event_type"),
    NAME("aggregate_id"),
    NAME("aggregate_type"),
    NAME("version"),
    NAME("occurred_at"),
    NAME("data"),
    NAME("content_type"),
    NAME("correlation_id"),
    NAME("causation_id"),
    NAME("traceparent"),
    NAME("payload"),
    NAME("event_data"),
    NAME("timestamp"),
    NAME("issuer"),
    NAME("category"),
    NAME("priority"),
    NAME("checksum"),
    NAME("key"),
    NAME("type"),
    NAME("id"),
    NAME("source"),
    NAME("dead_reason"),
    NAME("dead_error"),
    NAME("dead_stream"),
    NAME("dead_id"),
    NAME("dead_group"),
    NAME("dead_consumer"),
    NAME("dead_attempts"),
    NAME("dead_at"),
    NAME("dead_first_at"),
    NAME("attempt"),
#undef NAME
};
enum { known_count = sizeof known_names / sizeof known_names[0], version_code = 4 };

/* -1: not known. Most names differ in length or first byte, so that few are compared. */
static int code_of(tide_str name) {
    if (name.len < 2 || name.len > 14)
        return -1;
    for (int i = 0; i < known_count; i++) {
        if (known_names[i].len == name.len && known_names[i].data[0] == name.data[0] &&
            memcmp(known_names[i].data, name.data, name.len) == 0)
            return i;
    }
    return -1;
}

static size_t number_size(uint64_t number) {
    size_t size = 1;
    while (number >= 0x80) {
        number >>= 7;
        size++;
    }
    return size;
}

static char *put_number(char *out, uint64_t number) {
    while (number >= 0x80) {
        *out++ = (char)(unsigned char)(number | 0x80);
        number >>= 7;
    }
    *out++ = (char)(unsigned char)number;
    return out;
}

static bool get_number(const char **at, const char *end, uint64_t *number) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
        if (*at == end)
            return false;
        unsigned char byte = (unsigned char)*(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *number = value;
            return true;
        }
    }
    return false;
}

size_t tide__sq_packed_size(const tide_field *fields, size_t count) {
    /* One more for the open end's count; a name's length is at most what is asked for a code. */
    size_t size = number_size((uint64_t)count + 1);
    for (size_t i = 0; i < count; i++) {
        size += number_size((uint64_t)fields[i].name.len << 1) + fields[i].name.len;
        size += number_size(fields[i].value.len) + fields[i].value.len;
    }
    return size;
}

static size_t pack(char *out, const tide_field *fields, size_t count, size_t said) {
    char *at = put_number(out, said);
    for (size_t i = 0; i < count; i++) {
        int code = code_of(fields[i].name);
        if (code >= 0) {
            *at++ = (char)(unsigned char)((code << 1) | 1);
        } else {
            at = put_number(at, (uint64_t)fields[i].name.len << 1);
            if (fields[i].name.len > 0)
                memcpy(at, fields[i].name.data, fields[i].name.len);
            at += fields[i].name.len;
        }
        at = put_number(at, fields[i].value.len);
        if (fields[i].value.len > 0)
            memcpy(at, fields[i].value.data, fields[i].value.len);
        at += fields[i].value.len;
    }
    return (size_t)(at - out);
}

size_t tide__sq_pack(char *out, const tide_field *fields, size_t count) {
    return pack(out, fields, count, count);
}

size_t tide__sq_pack_open(char *out, const tide_field *fields, size_t count) {
    return pack(out, fields, count, count + 1);
}

size_t tide__sq_pack_version(char *out, uint64_t version) {
    out[0] = (char)((version_code << 1) | 1);
    size_t digits = tide_u64_format(out + 2, version);
    out[1] = (char)digits;
    return 2 + digits;
}

bool tide__sq_packed_count(tide_str blob, size_t *count) {
    const char *at = blob.data;
    uint64_t said;
    /* Each field has two bytes at least: a damaged count can't ask for more memory than the blob's own size. */
    if (blob.len == 0 || !get_number(&at, blob.data + blob.len, &said) || said > blob.len / 2)
        return false;
    *count = (size_t)said;
    return true;
}

bool tide__sq_unpack(tide_str blob, tide_field *fields, size_t count, size_t *bytes) {
    const char *at = blob.data, *end = blob.data + blob.len;
    uint64_t number;
    size_t sum = 0;
    if (!get_number(&at, end, &number) || number != count)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!get_number(&at, end, &number))
            return false;
        if ((number & 1) != 0) {
            if (number >> 1 >= known_count)
                return false;
            fields[i].name = known_names[number >> 1];
        } else {
            number >>= 1;
            if (number > (uint64_t)(end - at))
                return false;
            fields[i].name = (tide_str){at, (size_t)number};
            at += number;
        }
        if (!get_number(&at, end, &number) || number > (uint64_t)(end - at))
            return false;
        fields[i].value = (tide_str){at, (size_t)number};
        at += number;
        sum += fields[i].name.len + fields[i].value.len;
    }
    *bytes = sum;
    return at == end;
}
