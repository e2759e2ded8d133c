"""Augmentation: makes the views of images (SimCLR paper, appendix A; official code).

Entry points: `views` (on the host, one image at a time), `device_views` (on the device, a training
batch at a time), `two_views` (for training loops of your own). The functions that compute each
part:

| part        | host, up to 32 px        | host, above 32 px          | device, for a batch        |
|-------------|--------------------------|----------------------------|----------------------------|
| boxes       | crop.random_crop_box     | crop.random_crop_box       | crop.random_crop_boxes (1) |
| crop/resize | crop.crop_and_resize     | crop.crop_and_resize       | on_device.crop_and_resize  |
| flip        | crop.random_flip         | views._finish_compiled (2) | on_device.flip             |
| color       | distortion.distort_image | distortion.distort_planes  | on_device.color_distortion |
| blur        | -                        | -                          | blur.random_blur           |

(1) The host draws these boxes for a group of images at a time. The device crops only small images
    of one size. The host crops other images (crop.crop_and_resize_uint8), and the device continues
    with the flip.
(2) XLA compiles it together with the color distortion.

"Host" means --augment_on=host; blur always runs on the device. The operations of color
distortion are in color.OPERATIONS, each with its range of amounts and both ways to compute it.
distortion.distort_image uses TensorFlow's kernels. distortion.distort_planes and
on_device.color_distortion use planes. Random numbers that must not depend on the device come from
`draws`.
"""
