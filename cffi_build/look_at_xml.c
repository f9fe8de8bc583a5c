/* Look at a topology document, in one pass and without memory of its own. */
#include "hwnuma.h"

#include <string.h>
#include <strings.h>

/* A bitmap's text has up to 11 characters for 32 bits ("0xffffffff,"). */
enum { LONGEST_SET = 12 * (XML_LARGEST_INDEX / 32 + 1) };

static const char SPACE[] = " \t\r\n";
static const char NAME[] = "abcdefghijklmnopqrstuvwxyz0123456789_";

struct value {
    const char *start;
    size_t size;
};

struct scan {
    const char *at, *start;
    struct hwnuma_xml *found;
    struct value open[XML_MOST_DEPTH];
    int depth;
};

static int is(struct value value, const char *text)
{
    return value.size == strlen(text) && memcmp(value.start, text, value.size) == 0;
}

static int take(struct scan *scan, const char *text)
{
    size_t size = strlen(text);
    if (strncmp(scan->at, text, size) != 0)
        return 0;
    scan->at += size;
    return 1;
}

static struct value take_name(struct scan *scan)
{
    struct value name = {scan->at, strspn(scan->at, NAME)};
    scan->at += name.size;
    return name;
}

static void skip_space(struct scan *scan)
{
    scan->at += strspn(scan->at, SPACE);
}

/* Note the line of the first place where something is wrong. */
static void note(const struct scan *scan, unsigned *line)
{
    if (*line > 0)
        return;
    *line = 1;
    for (const char *at = scan->start; at < scan->at; at++)
        *line += *at == '\n';
}

/* A version's or an index's number: up to seven digits. */
static int to_number(struct value digits, unsigned *number)
{
    *number = 0;
    for (size_t i = 0; i < digits.size && i < 8; i++) {
        if (digits.start[i] < '0' || digits.start[i] > '9')
            return 0;
        *number = 10 * *number + (unsigned) (digits.start[i] - '0');
    }
    return digits.size > 0 && digits.size < 8;
}

/* One of the references that libhwloc's minimal parser knows. */
static int take_reference(struct scan *scan)
{
    static const char *const known[] = {"&#10;", "&#13;", "&#9;", "&quot;", "&lt;", "&gt;", "&amp;"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (take(scan, known[i]))
            return 1;
    return 0;
}

/* name="value", without what another parser would read in another way. */
static int take_attribute(struct scan *scan, struct value *name, struct value *value)
{
    *name = take_name(scan);
    if (name->size == 0 || !take(scan, "=\""))
        return 0;
    value->start = scan->at;
    while (*scan->at != '"') {
        if (*scan->at == '&') {
            if (!take_reference(scan))
                return 0;
        } else if ((unsigned char) *scan->at < ' ' || *scan->at == '<' || *scan->at == '>') {
            return 0;
        } else {
            scan->at++;
        }
    }
    value->size = (size_t) (scan->at++ - value->start);
    return 1;
}

/* libhwloc reads types in any case and shortened. Of these two, the index is a place in a bitmap. */
static int has_place(struct value type)
{
    return type.size > 0 && (strncasecmp(type.start, "pu", 2) == 0 || strncasecmp(type.start, "n", 1) == 0);
}

/* An element up to the end of its first tag. */
static int take_element(struct scan *scan)
{
    struct value name, value, type = {"", 0}, index = {"", 0};
    struct value element = take_name(scan);
    unsigned number;
    if (element.size == 0)
        return XML_OTHER;
    while (take(scan, " ")) {
        skip_space(scan);
        if (*scan->at == '/' || *scan->at == '>')
            break;
        if (!take_attribute(scan, &name, &value))
            return XML_OTHER;
        if (is(name, "type"))
            type = value;
        if (is(name, "os_index"))
            index = value;
        if (value.size > LONGEST_SET && name.size > 3 && memcmp(name.start + name.size - 3, "set", 3) == 0)
            note(scan, &scan->found->bad_set);
    }
    if (is(element, "object")) {
        scan->found->pus += is(type, "PU");
        if (has_place(type) && (!to_number(index, &number) || number > XML_LARGEST_INDEX))
            note(scan, &scan->found->bad_index);
    }
    if (take(scan, "/>"))
        return XML_OWN;
    if (!take(scan, ">"))
        return XML_OTHER;
    if (scan->depth == XML_MOST_DEPTH)
        return XML_TOO_DEEP;
    scan->open[scan->depth++] = element;
    return XML_OWN;
}

/* Text, as a leaf's whole content. */
static int take_text(struct scan *scan)
{
    for (skip_space(scan); *scan->at != '<'; scan->at++) {
        int is_space = *scan->at != '\0' && strchr(SPACE, *scan->at) != NULL;
        if (*scan->at == '&' || *scan->at == '>' || ((unsigned char) *scan->at < ' ' && !is_space))
            return 0;
    }
    return scan->at[1] == '/';
}

static int take_content(struct scan *scan)
{
    int result = XML_OWN, is_leaf = 0;
    while (scan->depth > 0 && result == XML_OWN) {
        skip_space(scan);
        if (*scan->at != '<' && !(is_leaf && take_text(scan)))
            return XML_OTHER;
        scan->at++;
        if (take(scan, "/")) {
            struct value name = take_name(scan), open = scan->open[--scan->depth];
            if (name.size != open.size || memcmp(name.start, open.start, open.size) != 0 || !take(scan, ">"))
                return XML_OTHER;
            is_leaf = 0;
        } else {
            int before = scan->depth;
            result = take_element(scan);
            is_leaf = scan->depth > before;
        }
    }
    skip_space(scan);
    return result == XML_OWN && *scan->at != '\0' ? XML_OTHER : result;
}

/* The lines ahead of the root element, each at most once; another encoding or declarations are for a whole parser. */
static int take_header(struct scan *scan)
{
    static const char *const lines[] = {
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", "<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n",
        "<!DOCTYPE topology SYSTEM \"hwloc.dtd\">\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        take(scan, lines[i]);
    return *scan->at == '<' && scan->at[1] != '?' && scan->at[1] != '!';
}

static int take_root(struct scan *scan)
{
    struct value number;
    scan->open[scan->depth++] = (struct value) {"topology", 8};
    scan->found->major = 1;
    if (take(scan, "<topology>"))
        return 1;
    if (!take(scan, "<topology version=\""))
        return 0;
    number = take_name(scan);
    if (!to_number(number, &scan->found->major) || !take(scan, "."))
        return 0;
    number = take_name(scan);
    return to_number(number, &scan->found->minor) && take(scan, "\">");
}

int hwnuma_look_at_xml(const char *document, struct hwnuma_xml *found)
{
    struct scan scan = {.at = document, .start = document, .found = found};
    memset(found, 0, sizeof *found);
    return take_header(&scan) && take_root(&scan) ? take_content(&scan) : XML_OTHER;
}
