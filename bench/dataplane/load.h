/* What engine.c and client.c share: a clock, errors, sockets, a growing buffer and a timer wheel. */
#ifndef POINTSMAN_BENCH_LOAD_H
#define POINTSMAN_BENCH_LOAD_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline void die_usage(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(2);
}

/* Thousands of connections need as many descriptors: take what the hard limit grants. */
static inline void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static inline void set_nodelay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static inline void watch(int epoll_fd, int operation, int fd, uint32_t events, void *owner) {
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(epoll_fd, operation, fd, &event) != 0) die("epoll_ctl");
}

/* ---- bytes ---- */

struct buffer {
    char *bytes;
    size_t length, capacity;
};

static inline void buffer_reserve(struct buffer *b, size_t more) {
    if (b->length + more <= b->capacity) return;
    size_t wanted = b->capacity ? b->capacity : 2048;
    while (wanted < b->length + more) wanted *= 2;
    b->bytes = realloc(b->bytes, wanted);
    if (!b->bytes) die("realloc");
    b->capacity = wanted;
}

static inline void buffer_append(struct buffer *b, const char *bytes, size_t length) {
    buffer_reserve(b, length);
    memcpy(b->bytes + b->length, bytes, length);
    b->length += length;
}

static inline void buffer_drop_front(struct buffer *b, size_t length) {
    memmove(b->bytes, b->bytes + length, b->length - length);
    b->length -= length;
}

/* The value of a header in a head ("...\r\nName: value\r\n..."), or NULL. */
static inline const char *header_value(const char *head, size_t length, const char *name) {
    size_t name_length = strlen(name);
    const char *end = head + length;
    for (const char *line = memchr(head, '\n', length); line && line + name_length + 2 < end;
         line = memchr(line + 1, '\n', (size_t)(end - line - 1))) {
        if (strncasecmp(line + 1, name, name_length) == 0 && line[1 + name_length] == ':') {
            const char *value = line + name_length + 2;
            while (value < end && *value == ' ') value++;
            return value;
        }
    }
    return NULL;
}

/* ---- timer wheel: one slot per millisecond, entries due later than one turn stay in their slot ---- */

enum { WHEEL_SLOTS = 4096 };

struct timer {
    struct timer *previous, *next;
    int64_t due_ns;
    void *owner;
};

struct wheel {
    struct timer slots[WHEEL_SLOTS];
    int64_t turned_to_ms;
    size_t armed;
};

static inline void wheel_init(struct wheel *w) {
    for (int i = 0; i < WHEEL_SLOTS; i++) w->slots[i].previous = w->slots[i].next = &w->slots[i];
    w->turned_to_ms = now_ns() / 1000000;
    w->armed = 0;
}

static inline void timer_disarm(struct wheel *w, struct timer *t) {
    if (!t->next) return;
    t->previous->next = t->next;
    t->next->previous = t->previous;
    t->next = t->previous = NULL;
    w->armed--;
}

static inline void timer_arm(struct wheel *w, struct timer *t, int64_t due_ns) {
    timer_disarm(w, t);
    int64_t slot_ms = due_ns / 1000000 + 1; /* up: when its slot is turned to, it is due */
    if (slot_ms <= w->turned_to_ms) slot_ms = w->turned_to_ms + 1;
    struct timer *slot = &w->slots[slot_ms % WHEEL_SLOTS];
    t->due_ns = due_ns;
    t->next = slot;
    t->previous = slot->previous;
    slot->previous->next = t;
    slot->previous = t;
    w->armed++;
}

/* Call `fire` for what is due; it may arm and disarm any timer. */
static inline void wheel_turn(struct wheel *w, void (*fire)(void *owner)) {
    int64_t now = now_ns(), now_ms = now / 1000000;
    while (w->turned_to_ms < now_ms) {
        struct timer *slot = &w->slots[++w->turned_to_ms % WHEEL_SLOTS];
        struct timer due = {.previous = &due, .next = &due};
        for (struct timer *t = slot->next, *next; t != slot; t = next) {
            next = t->next;
            if (t->due_ns > now) continue;
            t->previous->next = t->next;
            t->next->previous = t->previous;
            t->next = &due;
            t->previous = due.previous;
            due.previous->next = t;
            due.previous = t;
        }
        while (due.next != &due) {
            struct timer *t = due.next;
            timer_disarm(w, t);
            fire(t->owner);
        }
    }
}

#endif
