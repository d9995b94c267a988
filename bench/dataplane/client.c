/* The load side of the data-plane bench: one thread, closed loop, keep-alive, and suspicious of every answer.
 *
 *   client --port P --bodies FILE --connections K [--seconds S] [--warmup S] [--ramp S] [--pause-ms M] [--once]
 *          [--tokens N] [--header 'name: value']... [--spans FILE]
 *
 * FILE holds one request body per line; "########" in it becomes a number that no other request of the run has. Each
 * connection sends a request, reads the answer to its end, pauses, and sends the next. Bodies with "stream": true are
 * answered by events; with --tokens N each stream must bring exactly N events with text, in order, and "[DONE]", or it is an
 * error. --once opens all connections at the same moment and sends one request on each: an accept storm.
 *
 * Prints "begin" and "end" around the measured window, then one JSON object. Times are microseconds; first-byte times run
 * from sending the request (with --once: from connect) to the first byte of the answer's body.
 */
#include "load.h"

enum { READ_SIZE = 262144, LINE_SIZE = 1024, MAX_HEADERS = 16, MAX_SAMPLES = 1 << 23 };

struct samples {
    uint32_t *us;
    size_t count, capacity;
};

enum body_state { HEAD, LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

struct connection {
    int fd;
    bool connecting, waiting_first_byte, is_stream, done_seen;
    struct timer timer;
    int64_t started_ns;
    struct buffer out;
    struct buffer head; /* the answer's head, or a chunk-size line, as far as it has come */
    enum body_state state;
    size_t left; /* bytes of the body or of the chunk still to come */
    char line[LINE_SIZE];
    size_t line_length;
    int texts;
    int64_t last_text_ns;
};

static struct {
    int epoll_fd, port, connections, tokens;
    double seconds, warmup, ramp, pause_ms;
    bool once, measuring, stopped;
    int64_t begin_ns, end_ns;
    struct wheel wheel;
    struct buffer *bodies;
    size_t body_count, next_body;
    uint32_t serial;
    char headers[2048];
    FILE *spans;
    int open, finished_once;
    uint64_t requests, streams, events, bytes;
    uint64_t connect_errors, broken, bad_status, bad_stream, error_events;
    int last_status;
    struct samples latency, first_byte, delay;
} client = {.connections = 1, .seconds = 1};

static void sample(struct samples *s, int64_t ns) {
    if (!client.measuring || s->count == MAX_SAMPLES) return;
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? s->capacity * 2 : 65536;
        s->us = realloc(s->us, s->capacity * sizeof *s->us);
        if (!s->us) die("realloc");
    }
    s->us[s->count++] = (uint32_t)(ns / 1000);
}

/* ---- requests ---- */

static void request_begin(void *owner);

static void connection_drop(struct connection *c) {
    if (c->fd >= 0) {
        close(c->fd);
        client.open--;
    }
    c->fd = -1;
    c->out.length = 0;
}

static void next_request(struct connection *c, double pause_ms) {
    if (client.once) {
        client.finished_once++;
        connection_drop(c);
    } else if (!client.stopped) {
        if (pause_ms > 0) timer_arm(&client.wheel, &c->timer, now_ns() + (int64_t)(pause_ms * 1e6));
        else request_begin(c);
    }
}

static void fail(struct connection *c, uint64_t *counter) {
    (*counter)++;
    connection_drop(c);
    next_request(c, 10); /* a refusing router must not turn the client into a busy loop */
}

static void connection_flush(struct connection *c) {
    ssize_t taken = send(c->fd, c->out.bytes, c->out.length, MSG_NOSIGNAL);
    if (taken < 0) {
        if (errno != EAGAIN) { fail(c, &client.broken); return; }
        taken = 0;
    }
    buffer_drop_front(&c->out, (size_t)taken);
    watch(client.epoll_fd, EPOLL_CTL_MOD, c->fd, c->out.length ? EPOLLIN | EPOLLOUT : EPOLLIN, c);
}

static void connection_open(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)client.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    client.open++;
    set_nodelay(c->fd);
    c->connecting = true;
    int failed = connect(c->fd, (struct sockaddr *)&address, sizeof address);
    watch(client.epoll_fd, EPOLL_CTL_ADD, c->fd, EPOLLOUT, c);
    if (failed && errno != EINPROGRESS) fail(c, &client.connect_errors);
}

static void request_write(struct buffer *out) {
    static const char hex[] = "0123456789abcdef";
    const struct buffer *body = &client.bodies[client.next_body];
    client.next_body = (client.next_body + 1) % client.body_count;
    char head[4096];
    int length = snprintf(head, sizeof head, "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n%scontent-length: %zu\r\n\r\n",
                          client.port, client.headers, body->length);
    buffer_append(out, head, (size_t)length);
    buffer_append(out, body->bytes, body->length);
    char *mark = memmem(out->bytes + out->length - body->length, body->length, "########", 8);
    uint32_t serial = client.serial++ * 2654435761u; /* odd: distinct for 2^32 requests, and unlike its neighbours */
    for (int i = 0; mark && i < 8; i++) mark[i] = hex[serial >> (4 * i) & 15];
}

static void request_begin(void *owner) {
    struct connection *c = owner;
    if (client.stopped) return;
    c->waiting_first_byte = true;
    c->is_stream = c->done_seen = false;
    c->state = HEAD;
    c->head.length = c->line_length = 0;
    c->texts = 0;
    c->last_text_ns = 0;
    c->started_ns = now_ns();
    request_write(&c->out);
    if (c->fd >= 0) {
        ssize_t taken = send(c->fd, c->out.bytes, c->out.length, MSG_NOSIGNAL);
        if (taken == (ssize_t)c->out.length) { c->out.length = 0; return; }
        connection_flush(c);
    } else {
        connection_open(c);
    }
}

static void answer_end(struct connection *c) {
    int64_t now = now_ns();
    c->state = HEAD;
    if (c->is_stream && (!c->done_seen || (client.tokens && c->texts != client.tokens))) { fail(c, &client.bad_stream); return; }
    if (client.measuring) {
        client.requests++;
        client.streams += c->is_stream;
        if (client.spans) fprintf(client.spans, "%lld %lld\n", (long long)c->started_ns, (long long)now);
    }
    sample(&client.latency, now - c->started_ns);
    next_request(c, client.pause_ms);
}

/* ---- answers ---- */

/* One line of an event stream. Our engine's texts are the clock when they were written; others' are any text. */
static void event_line(struct connection *c) {
    if (c->line_length < 7 || memcmp(c->line, "data: ", 6) != 0) return;
    if (memcmp(c->line + 6, "[DONE]", 6) == 0) { c->done_seen = true; return; }
    if (memcmp(c->line + 6, "{\"error\"", 8) == 0) { client.error_events++; return; }
    if (client.measuring) client.events++;
    const char *text = memmem(c->line, c->line_length, "\"content\":\"", 11);
    if (!text || text[11] == '"') return;
    c->texts++;
    if (text[11] != ' ' || !isdigit((unsigned char)text[12])) return;
    int64_t written_ns = strtoll(text + 12, NULL, 10);
    if (written_ns < c->last_text_ns) client.bad_stream++;
    c->last_text_ns = written_ns;
    sample(&client.delay, now_ns() - written_ns);
}

static void body_bytes(struct connection *c, const char *bytes, size_t length) {
    if (c->waiting_first_byte) {
        c->waiting_first_byte = false;
        sample(&client.first_byte, now_ns() - c->started_ns);
    }
    if (client.measuring) client.bytes += length;
    if (!c->is_stream) return;
    const char *end = bytes + length;
    while (bytes < end) {
        const char *newline = memchr(bytes, '\n', (size_t)(end - bytes));
        size_t part = (size_t)((newline ? newline : end) - bytes);
        size_t room = LINE_SIZE - 1 - c->line_length;
        memcpy(c->line + c->line_length, bytes, part < room ? part : room);
        c->line_length += part < room ? part : room;
        bytes += part;
        if (!newline) break;
        c->line[c->line_length] = 0;
        event_line(c);
        c->line_length = 0;
        bytes++;
    }
}

static bool head_end(struct connection *c) {
    buffer_append(&c->head, "", 1);
    c->head.length--;
    client.last_status = c->head.length > 12 ? atoi(c->head.bytes + 9) : 0;
    if (client.last_status != 200) { fail(c, &client.bad_status); return false; }
    const char *type = header_value(c->head.bytes, c->head.length, "content-type");
    const char *length = header_value(c->head.bytes, c->head.length, "content-length");
    c->is_stream = type && strncmp(type, "text/event-stream", 17) == 0;
    if (length) {
        c->state = LENGTH;
        c->left = strtoul(length, NULL, 10);
    } else {
        c->state = CHUNK_SIZE;
    }
    c->head.length = 0;
    return true;
}

/* Take a line that ends in CRLF out of *bytes into c->head; true once it is whole (without the CRLF). */
static bool take_line(struct connection *c, const char **bytes, const char *end) {
    const char *newline = memchr(*bytes, '\n', (size_t)(end - *bytes));
    const char *stop = newline ? newline + 1 : end;
    buffer_append(&c->head, *bytes, (size_t)(stop - *bytes));
    *bytes = stop;
    if (!newline) return false;
    c->head.length -= 2;
    buffer_append(&c->head, "", 1);
    c->head.length--;
    return true;
}

/* Bytes of an answer. Returns false when the connection was dropped, or given to another request. */
static bool answer_bytes(struct connection *c, const char *bytes, const char *end) {
    while (bytes < end) {
        size_t here = (size_t)(end - bytes);
        switch (c->state) {
        case HEAD: {
            size_t before = c->head.length, from = before > 3 ? before - 3 : 0;
            buffer_append(&c->head, bytes, here);
            const char *blank = memmem(c->head.bytes + from, c->head.length - from, "\r\n\r\n", 4);
            if (!blank) {
                if (c->head.length > 65536) { fail(c, &client.broken); return false; }
                return true;
            }
            size_t head_length = (size_t)(blank + 4 - c->head.bytes);
            c->head.length = head_length;
            bytes += head_length - before;
            if (!head_end(c)) return false;
            if (c->state == LENGTH && c->left == 0) { answer_end(c); return false; }
            break;
        }
        case LENGTH:
        case CHUNK_DATA: {
            size_t part = here < c->left ? here : c->left;
            body_bytes(c, bytes, part);
            bytes += part;
            c->left -= part;
            if (c->left) break;
            if (c->state == LENGTH) { answer_end(c); return false; }
            c->state = CHUNK_END;
            c->head.length = 0;
            break;
        }
        case CHUNK_END:
            if (take_line(c, &bytes, end)) { c->state = CHUNK_SIZE; c->head.length = 0; }
            break;
        case CHUNK_SIZE:
            if (!take_line(c, &bytes, end)) break;
            if (!isxdigit((unsigned char)c->head.bytes[0])) { fail(c, &client.broken); return false; }
            c->left = strtoul(c->head.bytes, NULL, 16);
            c->state = c->left ? CHUNK_DATA : TRAILER;
            c->head.length = 0;
            break;
        case TRAILER:
            if (!take_line(c, &bytes, end)) break;
            if (c->head.length == 0) { answer_end(c); return false; }
            c->head.length = 0;
            break;
        }
    }
    return true;
}

static void connection_event(struct connection *c, uint32_t events) {
    static char bytes[READ_SIZE];
    if (c->fd < 0) return;
    if (c->connecting && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        c->connecting = false;
        if (error) { fail(c, &client.connect_errors); return; }
    }
    if (c->out.length) connection_flush(c);
    if (c->fd < 0 || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    ssize_t got = recv(c->fd, bytes, sizeof bytes, 0);
    if (got > 0) answer_bytes(c, bytes, bytes + got);
    else if (got == 0 && c->state == HEAD && c->head.length == 0 && (c->timer.next || client.stopped)) connection_drop(c); /* idle: its right */
    else if (got == 0 || errno != EAGAIN) fail(c, &client.broken);
}

/* ---- the run and its report ---- */

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void print_samples(const char *name, struct samples *s) {
    static const struct { const char *name; double at; } marks[] = {{"p50", .5}, {"p90", .9}, {"p99", .99}, {"p999", .999}, {"max", 1}};
    qsort(s->us, s->count, sizeof *s->us, by_value);
    printf(",\"%s_us\":{\"count\":%zu", name, s->count);
    for (size_t i = 0; s->count && i < sizeof marks / sizeof *marks; i++) {
        size_t at = (size_t)(marks[i].at * (double)s->count);
        printf(",\"%s\":%u", marks[i].name, s->us[at < s->count ? at : s->count - 1]);
    }
    printf("}");
}

static void report(void) {
    printf("{\"seconds\":%.6f,\"requests\":%llu,\"streams\":%llu,\"events\":%llu,\"bytes\":%llu,\"open\":%d,"
           "\"errors\":{\"connect\":%llu,\"broken\":%llu,\"status\":%llu,\"stream\":%llu,\"event\":%llu},\"last_status\":%d",
           (double)(client.end_ns - client.begin_ns) / 1e9, (unsigned long long)client.requests, (unsigned long long)client.streams,
           (unsigned long long)client.events, (unsigned long long)client.bytes, client.open, (unsigned long long)client.connect_errors,
           (unsigned long long)client.broken, (unsigned long long)client.bad_status, (unsigned long long)client.bad_stream,
           (unsigned long long)client.error_events, client.last_status);
    print_samples("latency", &client.latency);
    print_samples("first_byte", &client.first_byte);
    print_samples("delay", &client.delay);
    printf("}\n");
}

static void run(void) {
    struct epoll_event events[512];
    struct connection *connections = calloc((size_t)client.connections, sizeof *connections);
    int64_t start = now_ns(), warm = start + (int64_t)((client.once ? 0 : client.warmup) * 1e9);
    wheel_init(&client.wheel);
    for (int i = 0; i < client.connections; i++) {
        connections[i].fd = -1;
        connections[i].timer.owner = &connections[i];
        if (!client.once) timer_arm(&client.wheel, &connections[i].timer, start + (int64_t)(client.ramp * 1e9 * i / client.connections));
    }
    for (;;) {
        int64_t now = now_ns();
        if (!client.begin_ns && now >= warm) {
            printf("begin\n");
            fflush(stdout);
            client.begin_ns = now_ns();
            client.measuring = true;
            for (int i = 0; client.once && i < client.connections; i++) request_begin(&connections[i]);
        }
        bool time_over = client.begin_ns && now >= client.begin_ns + (int64_t)(client.seconds * 1e9);
        if (time_over || (client.once && client.finished_once == client.connections)) break;
        int ready = epoll_wait(client.epoll_fd, events, 512, 1);
        for (int i = 0; i < ready; i++) connection_event(events[i].data.ptr, events[i].events);
        wheel_turn(&client.wheel, request_begin);
    }
    client.measuring = false;
    client.stopped = true;
    client.end_ns = now_ns();
    printf("end\n");
    fflush(stdout);
    report();
}

static void read_bodies(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) die(path);
    char *line = NULL;
    size_t capacity = 0;
    for (ssize_t length; (length = getline(&line, &capacity, file)) > 1;) {
        client.bodies = realloc(client.bodies, (client.body_count + 1) * sizeof *client.bodies);
        client.bodies[client.body_count] = (struct buffer){0};
        buffer_append(&client.bodies[client.body_count++], line, (size_t)length - 1);
    }
    if (!client.body_count) die_usage("client: no bodies");
    free(line);
    fclose(file);
}

int main(int argc, char **argv) {
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    client.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        if (strcmp(option, "--once") == 0) { client.once = true; continue; }
        if (++i == argc) die_usage("client: an option lacks its value");
        if (strcmp(option, "--port") == 0) client.port = atoi(argv[i]);
        else if (strcmp(option, "--bodies") == 0) read_bodies(argv[i]);
        else if (strcmp(option, "--connections") == 0) client.connections = atoi(argv[i]);
        else if (strcmp(option, "--seconds") == 0) client.seconds = atof(argv[i]);
        else if (strcmp(option, "--warmup") == 0) client.warmup = atof(argv[i]);
        else if (strcmp(option, "--ramp") == 0) client.ramp = atof(argv[i]);
        else if (strcmp(option, "--pause-ms") == 0) client.pause_ms = atof(argv[i]);
        else if (strcmp(option, "--tokens") == 0) client.tokens = atoi(argv[i]);
        else if (strcmp(option, "--spans") == 0) { if (!(client.spans = fopen(argv[i], "w"))) die(argv[i]); }
        else if (strcmp(option, "--header") == 0) {
            size_t used = strlen(client.headers);
            snprintf(client.headers + used, sizeof client.headers - used, "%s\r\n", argv[i]);
        } else die_usage(option);
    }
    if (!client.port || !client.bodies) die_usage("client: --port and --bodies are needed");
    run();
    if (client.spans) fclose(client.spans);
    return 0;
}
