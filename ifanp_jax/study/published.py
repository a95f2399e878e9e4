"""What the papers print of their inpainters, with what they say of their protocol."""

PUBLISHED = (
    {
        "title": "Yu et al., 2018 (DeepFill), Places2",
        "protocol": "The paper does not give its protocol: which images, sizes and holes, and how the "
        "percentages are normalised. It is for orientation alone.",
        "rows": (
            {"method": "PatchMatch", "l1 %": 16.1, "l2 %": 3.9, "PSNR": 16.62, "TV %": 25.0},
            {"method": "baseline, no attention", "l1 %": 9.4, "l2 %": 2.4, "PSNR": 18.15, "TV %": 25.7},
            {"method": "DeepFill", "l1 %": 8.6, "l2 %": 2.1, "PSNR": 18.91, "TV %": 25.3},
        ),
    },
    {
        "title": "Shift-Net with multi-scale attention, table 1, CelebA and Places2",
        "protocol": "Images of 256x256, centre mask; PSNR in dB and SSIM of CelebA / Places2.",
        "rows": (
            {"method": "Context Encoder", "PSNR": "24.16 / 24.73", "SSIM": "0.84 / 0.87"},
            {"method": "Shift-Net", "PSNR": "26.51 / 26.84", "SSIM": "0.88 / 0.91"},
            {"method": "theirs", "PSNR": "27.84 / 28.16", "SSIM": "0.89 / 0.93"},
        ),
    },
)  # fmt: skip
