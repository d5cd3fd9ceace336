/* SPDX-License-Identifier: Apache-2.0 */
#include <dvk/error.h>
#include <string.h>

static const char *const texts[] = {
    [DVK_ENOTBOUND - DVK_ERROR_BASE] = "endpoint not bound",
    [DVK_EDEADSRC - DVK_ERROR_BASE] = "source died",
    [DVK_EDEADDST - DVK_ERROR_BASE] = "destination died",
    [DVK_ENODC - DVK_ERROR_BASE] = "no such distributed container",
    [DVK_ENODEUNREACH - DVK_ERROR_BASE] = "node unreachable",
    [DVK_ENOTALLOWED - DVK_ERROR_BASE] = "not allowed",
    [DVK_EDEADLOCK - DVK_ERROR_BASE] = "would deadlock",
    [DVK_ETIMEDOUT - DVK_ERROR_BASE] = "timed out",
    [DVK_EINTERRUPTED - DVK_ERROR_BASE] = "interrupted",
    [DVK_EMIGRATING - DVK_ERROR_BASE] = "endpoint is migrating",
    [DVK_ENOSLOT - DVK_ERROR_BASE] = "no free slot",
    [DVK_ESLOTBUSY - DVK_ERROR_BASE] = "slot is in use",
    [DVK_EBADPEER - DVK_ERROR_BASE] = "peer broke the protocol",
    [DVK_ENOQUORUM - DVK_ERROR_BASE] = "no quorum",
    [DVK_ENODAEMON - DVK_ERROR_BASE] = "dvkd is not running",
    [DVK_EVERSION - DVK_ERROR_BASE] = "protocol version differs",
    [DVK_ENOTGRANTED - DVK_ERROR_BASE] = "memory not granted",
    [DVK_EREVOKED - DVK_ERROR_BASE] = "grant was revoked",
    [DVK_EOUTOFGRANT - DVK_ERROR_BASE] = "outside of the grant",
    [DVK_ECONFLICT - DVK_ERROR_BASE] = "not in the expected revision",
    [DVK_ENOKEY - DVK_ERROR_BASE] = "no such key",
    [DVK_EUNKNOWN - DVK_ERROR_BASE] = "outcome unknown: quorum was lost on the way",
    [DVK_ELOST - DVK_ERROR_BASE] = "lost to others",
    [DVK_ENOTMEMBER - DVK_ERROR_BASE] = "not a member or holder",
    [DVK_EGAP - DVK_ERROR_BASE] = "changes were missed",
    [DVK_ENOBACKUP - DVK_ERROR_BASE] = "endpoint has no backup there",
    [DVK_ENOTMIGRATING - DVK_ERROR_BASE] = "endpoint is not migrating",
    [DVK_ENOTCARRIED - DVK_ERROR_BASE] = "something received cannot be handed on",
};

const char *dvk_strerror(int error) {
    if (error >= 0)
        return "success";
    /* -INT_MIN would overflow */
    long long number = -(long long)error;
    if (number >= DVK_ERROR_BASE && number < DVK_ERROR_BASE + (long long)(sizeof texts / sizeof texts[0]) &&
        texts[number - DVK_ERROR_BASE])
        return texts[number - DVK_ERROR_BASE];
    const char *text = number < 4096 ? strerrordesc_np((int)number) : NULL;
    return text ? text : "unknown error";
}
