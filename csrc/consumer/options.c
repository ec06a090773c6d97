/* SPDX-License-Identifier: MIT */
/*
 * What it is: the options of a subscription: checked once, copied, their defaults worked out.
 * What it is not: their meaning; each file reads its own.
 * Invariants: after the copy every string is the consumer's own, recover_ms and dead_letters are set, and every duration is
 * in a range in which sums can't overflow.
 */
#include "base/alloc.h"
#include "base/limits.h"
#include "base/text.h"
#include "consumer/internal.h"

static tide_status refuse(tide_error *error, const char *name, const char *want) {
    return tide_error_set(error, TIDE_OPTION, "subscription option %s must be %s", name, want);
}

static tide_status check_name(tide_error *error, const char *name, tide_str value) {
    if (value.len == 0 || value.len > TIDE_NAME_MAX)
        return tide_error_set(error, TIDE_OPTION, "subscription option %s must have 1 to %d bytes",
                              name, TIDE_NAME_MAX);
    return TIDE_OK;
}

static tide_status check_ms(tide_error *error, const char *name, int64_t value, int64_t least) {
    if (value < least || value > TIDE_CONSUMER_MS_MAX)
        return tide_error_set(error, TIDE_OPTION, "subscription option %s must be %lld to %d ms",
                              name, (long long)least, TIDE_CONSUMER_MS_MAX);
    return TIDE_OK;
}

tide_status tide__options_check(const tide_consumer_options *o, tide_error *error) {
    tide_status status;
    if ((status = check_name(error, "stream", o->stream)) != TIDE_OK ||
        (status = check_name(error, "group", o->group)) != TIDE_OK ||
        (status = check_name(error, "consumer", o->consumer)) != TIDE_OK)
        return status;
    tide_id id;
    if (o->start.len > 0 && !tide_str_equal(o->start, TIDE_STR("$")) &&
        !tide_id_parse(o->start, 0, &id))
        return refuse(error, "start", "\"0\", \"$\" or an id");
    if (o->dead_letters.len > TIDE_NAME_MAX + 8)
        return refuse(error, "dead_letters", "shorter");
    if (tide_str_equal(o->dead_letters, o->stream))
        return refuse(error, "dead_letters",
                      "another stream: its letters would come back as events");
    if (o->prefetch < 1 || o->prefetch > TIDE_PREFETCH_MAX)
        return tide_error_set(error, TIDE_OPTION, "subscription option prefetch must be 1 to %d",
                              TIDE_PREFETCH_MAX);
    if (o->prefetch_bytes < 1)
        return refuse(error, "prefetch_bytes", "1 or more");
    if ((status = check_ms(error, "lease_ms", o->lease_ms, 10)) != TIDE_OK ||
        (status = check_ms(error, "recover_ms", o->recover_ms, 0)) != TIDE_OK ||
        (status = check_ms(error, "block_ms", o->block_ms, 1)) != TIDE_OK ||
        (status = check_ms(error, "settle_ms", o->settle_ms, 0)) != TIDE_OK ||
        (status = check_ms(error, "delay_move_ms", o->delay_move_ms, 0)) != TIDE_OK ||
        (status = check_ms(error, "promote_ms", o->promote_ms, 1)) != TIDE_OK ||
        (status = check_ms(error, "retry.delay_ms", o->retry.delay_ms, 0)) != TIDE_OK)
        return status;
    if (o->retry.delay_ms_max < 0)
        return refuse(error, "retry.delay_ms_max", "0 or more");
    if (!(o->retry.factor >= 0) || !(o->retry.jitter >= 0 && o->retry.jitter <= 1))
        return refuse(error, "retry", "a factor of 0 or more and a jitter of 0 to 1");
    return TIDE_OK;
}

tide_status tide__options_copy(tide_consumer *c, const tide_consumer_options *from) {
    tide_consumer_options *o = &c->options;
    *o = *from;
    o->stream = o->group = o->consumer = o->start = o->dead_letters = (tide_str){NULL, 0};
    tide_status status = tide_str_copy(&c->alloc, from->stream, &o->stream);
    if (status == TIDE_OK)
        status = tide_str_copy(&c->alloc, from->group, &o->group);
    if (status == TIDE_OK)
        status = tide_str_copy(&c->alloc, from->consumer, &o->consumer);
    if (status == TIDE_OK)
        status =
            tide_str_copy(&c->alloc, from->start.len > 0 ? from->start : TIDE_STR("0"), &o->start);
    if (status != TIDE_OK)
        return status;
    char derived[TIDE_NAME_MAX + 16];
    tide_str dead = from->dead_letters;
    if (dead.len == 0)
        dead = (tide_str){derived, tide_derived_key(derived, from->stream, TIDE_STR("dlq"))};
    status = tide_str_copy(&c->alloc, dead, &o->dead_letters);
    if (o->recover_ms == 0)
        o->recover_ms = o->lease_ms / 3 > 0 ? o->lease_ms / 3 : 1;
    if (!tide_id_parse(o->start, 0, &c->checkpoint))
        c->checkpoint = (tide_id){0, 0};
    return status;
}

void tide__options_free(tide_consumer *consumer) {
    tide_consumer_options *o = &consumer->options;
    tide_str_free(&consumer->alloc, &o->stream);
    tide_str_free(&consumer->alloc, &o->group);
    tide_str_free(&consumer->alloc, &o->consumer);
    tide_str_free(&consumer->alloc, &o->start);
    tide_str_free(&consumer->alloc, &o->dead_letters);
}
