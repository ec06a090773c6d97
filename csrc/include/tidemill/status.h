/* SPDX-License-Identifier: MIT */
#ifndef TIDEMILL_STATUS_H
#define TIDEMILL_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Every outcome a call of tidemill can have. A status has a stable code ("TIDE-TIMEOUT": what logs,
 * Lua errors and scripts match on), a text, and a class that says what a caller can do:
 *   ok         nothing went wrong
 *   retryable  the same call may succeed later, unchanged
 *   fatal      it won't succeed until somebody mends the configuration, the server or the data
 *   caller     the call itself was wrong
 * TIDE_UNKNOWN is the third end of a publish: the connection died between sending and the reply, so
 * the event may or may not be there. It is retryable only when the event carries an idempotency id.
 */
#define TIDE_STATUS_MAP(X)                                                                         \
    X(OK, "OK", OK, "success")                                                                     \
    X(AGAIN, "AGAIN", RETRYABLE, "nothing to do yet")                                              \
    X(ENOMEM, "NOMEM", RETRYABLE, "out of memory")                                                 \
    X(TIMEOUT, "TIMEOUT", RETRYABLE, "no reply within the time limit")                             \
    X(UNKNOWN, "UNKNOWN", RETRYABLE, "the connection was lost before the reply")                   \
    X(DISCONNECTED, "DISCONNECTED", RETRYABLE, "not connected, nothing was written")               \
    X(CONNECT, "CONNECT", RETRYABLE, "cannot connect")                                             \
    X(TLS, "TLS", FATAL, "the TLS handshake failed")                                               \
    X(PROTOCOL, "PROTOCOL", RETRYABLE, "the server sent something that is not a reply")            \
    X(LIMIT, "LIMIT", CALLER, "a limit was exceeded")                                              \
    X(OVERFLOW, "OVERFLOW", RETRYABLE, "a bounded queue is full")                                  \
    X(LOADING, "LOADING", RETRYABLE, "the server is loading its data")                             \
    X(READONLY, "READONLY", RETRYABLE, "the server is read-only")                                  \
    X(OOM, "OOM", RETRYABLE, "the server is out of memory")                                        \
    X(MISCONF, "MISCONF", RETRYABLE, "the server refuses writes")                                  \
    X(BUSY, "BUSY", RETRYABLE, "the server or the file is busy")                                   \
    X(MAXCLIENTS, "MAXCLIENTS", RETRYABLE, "the server has too many clients")                      \
    X(NOAUTH, "NOAUTH", FATAL, "the server wants a password or refused it")                        \
    X(NOPERM, "NOPERM", FATAL, "the user lacks a permission")                                      \
    X(NOGROUP, "NOGROUP", RETRYABLE, "the consumer group does not exist")                          \
    X(EXISTS, "EXISTS", CALLER, "it exists already")                                               \
    X(WRONGTYPE, "WRONGTYPE", FATAL, "the key holds another type")                                 \
    X(NOSCRIPT, "NOSCRIPT", RETRYABLE, "the server does not know the script")                      \
    X(MOVED, "MOVED", RETRYABLE, "another node serves the key")                                    \
    X(REPLY, "REPLY", CALLER, "the server answered with an error")                                 \
    X(CONFLICT, "CONFLICT", CALLER, "the stream is not at the expected version")                   \
    X(NOTFOUND, "NOTFOUND", CALLER, "there is no such thing")                                      \
    X(UNSUPPORTED, "UNSUPPORTED", FATAL, "not on this engine")                                     \
    X(REPLICAS, "REPLICAS", RETRYABLE, "fewer replicas than asked for confirmed the write")        \
    X(URL, "URL", CALLER, "the URL is not valid")                                                  \
    X(OPTION, "OPTION", CALLER, "an option is not valid")                                          \
    X(ARGUMENT, "ARGUMENT", CALLER, "an argument is not valid")                                    \
    X(DECODE, "DECODE", FATAL, "the event cannot be decoded")                                      \
    X(CLOSED, "CLOSED", CALLER, "it is closed")                                                    \
    X(FULL, "FULL", RETRYABLE, "the disk is full")                                                 \
    X(IO, "IO", FATAL, "reading or writing the file failed")                                       \
    X(CORRUPT, "CORRUPT", FATAL, "the file is damaged")                                            \
    X(FOREIGN, "FOREIGN", FATAL, "the file belongs to another program or a newer version")         \
    X(CANCELLED, "CANCELLED", CALLER, "cancelled")                                                 \
    X(INTERNAL, "INTERNAL", FATAL, "a mistake in tidemill")

typedef enum tide_status {
#define X(name, code, class, text) TIDE_##name,
    TIDE_STATUS_MAP(X)
#undef X
        TIDE_STATUS_COUNT
} tide_status;

typedef enum tide_status_class {
    TIDE_CLASS_OK,
    TIDE_CLASS_RETRYABLE,
    TIDE_CLASS_FATAL,
    TIDE_CLASS_CALLER
} tide_status_class;

/* The stable code, "TIDE-TIMEOUT"; "TIDE-INTERNAL" for a number that is no status. Static
 * memory. */
const char *tide_status_code(tide_status status);

/* One line of text for people, without a full stop. Static memory. */
const char *tide_status_text(tide_status status);

/* What a caller can do about it; see the classes above. */
tide_status_class tide_status_class_of(tide_status status);

#ifdef __cplusplus
}
#endif

#endif
