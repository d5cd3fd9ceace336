/* SPDX-License-Identifier: Apache-2.0 */
/* A flight recorder's bytes, as a cell's servers may have left them: made into JSON and into text for a terminal. */
#include "common/cleanup.h"
#include "common/record_read.h"
#include "input.h"

#include <string.h>

/* The input's bytes are the header and the first entries; the second copy differs in its last byte. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char bytes[RECORDER_SIZE], again[RECORDER_SIZE];
    struct failure failure = {0};
    struct recorder_header *header = (void *)bytes;
    size_t head = size < sizeof *header ? size : sizeof *header, rest = size - head;
    if (rest > RECORDER_SIZE - RECORDER_HEADER_SIZE)
        return 0;
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, data, head);
    memcpy(bytes + RECORDER_HEADER_SIZE, data + head, rest);
    if (size & 1) /* mostly it is one at first sight */
        header->magic = RECORDER_MAGIC, header->version = RECORDER_VERSION, header->capacity = RECORDER_CAPACITY,
        header->entry_size = sizeof(struct recorder_entry);
    memcpy(again, bytes, sizeof bytes);
    if (rest)
        again[RECORDER_HEADER_SIZE + rest - 1] ^= 1;
    cleanup_json json_t *record = record_to_json(bytes, again, sizeof bytes, 64, &failure);
    MUST(record || failure.message[0]);
    if (!record)
        return 0;
    cleanup_free char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    MUST(out && record_print(record, out) == 0);
    fclose(out);
    for (size_t i = 0; i < len; i++)
        MUST(text[i] == '\n' || (text[i] >= ' ' && text[i] <= '~'));
    return 0;
}
